"""Reloads as traces for OpenTelemetry, by OTLP over HTTP, where the standard OTEL_* variables say.

The one module that imports opentelemetry, and only when there is something to export. Of the SDK it takes the values
and the exporter: its providers keep threads and fork hooks, in a process whose forks are to do nothing but exec.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqserver.control.spans import Reload, Reloads, Span
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
CLOSE_SECONDS = 2.0
_LIBRARY = "opentelemetry"
_MODULES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
log = get_logger("otlp")


def wanted(environ: Mapping[str, str]) -> str:
    """Return the variable that asks for traces, empty if none does or another forbids it."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return ""
    return next((name for name in ENDPOINTS if environ.get(name)), "")


def is_installed() -> bool:
    """Tell whether ``tqserver[otel]`` is."""
    try:
        return all(importlib.util.find_spec(module) is not None for module in _MODULES)
    except ModuleNotFoundError:  # of a parent
        return False


class TraceExport:
    """Takes events, and exports each reload when it is complete: one after another, in another thread."""

    def __init__(self, tasks: TaskOwner) -> None:
        self._tasks = tasks
        self._reloads = Reloads()
        self._exporting = asyncio.Lock()
        self._exporter: _Exporter | None = None

    @classmethod
    def begin(cls, environ: Mapping[str, str], tasks: TaskOwner) -> TraceExport | None:
        """Return one if the environment asks for it, and say so if what it takes is not installed."""
        variable = wanted(environ)
        if variable and not is_installed():
            log.warning("traces.not_exported", reason=f"{variable} is set, and OpenTelemetry is not installed",
                        remedy="pip install 'tqserver[otel]', or set OTEL_TRACES_EXPORTER=none")  # fmt: skip
        return cls(tasks) if variable and is_installed() else None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event of the log."""
        if (reload := self._reloads.take(event, clock.wall())) is not None:
            self._tasks.start(self._export([reload]), name="traces.export")

    async def close(self) -> None:
        """Export what is left, and give up what a collector does not take at once."""
        if rest := self._reloads.rest():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._export(rest)
        if self._exporter is not None:
            self._exporter.close()

    async def _export(self, reloads: Sequence[Reload]) -> None:
        async with self._exporting:
            if self._exporter is None:
                self._exporter = await asyncio.to_thread(_Exporter)
            if reason := await asyncio.to_thread(self._exporter.export, reloads):
                log.warning("traces.not_exported", reason=reason, remedy="OTEL_EXPORTER_OTLP_ENDPOINT says where to")


class _Said(logging.Handler):
    """Keeps what the library says, which is the only place where it says what went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class _Exporter:
    """The library's; everything here may block."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415

        self._said = _Said()
        logger = logging.getLogger(_LIBRARY)
        logger.handlers, logger.propagate = [self._said], False
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # nobody has named it
            resource = resource.merge(Resource({SERVICE_NAME: "tqserver"}))
        self._resource: Resource = resource
        self._exporter: OTLPSpanExporter = OTLPSpanExporter()

    def export(self, reloads: Sequence[Reload]) -> str:
        """Send them; return what went wrong, if anything did."""
        self._said.lines.clear()
        self._exporter.export([span for reload in reloads for span in self._spans(reload)])
        return " ".join(self._said.lines)

    def close(self) -> None:
        """Try nothing again."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _spans(self, reload: Reload) -> Iterator[ReadableSpan]:
        trace = secrets.randbits(128)
        root = _context(trace)
        yield self._span(reload.whole, root, None)
        for step in reload.steps:
            yield self._span(step, _context(trace), root)

    def _span(self, span: Span, context: SpanContext, parent: SpanContext | None) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        return ReadableSpan(
            span.name,
            context,
            parent,
            self._resource,
            attributes=span.attributes,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=int(span.begun * 1e9),
            end_time=int(span.ended * 1e9),
            instrumentation_scope=InstrumentationScope("tqserver"),
        )


def _context(trace: int) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

    return SpanContext(trace, secrets.randbits(64) or 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
