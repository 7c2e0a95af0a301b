"""The admin API: what ``tqserver status`` and the like ask a running server (``docs/admin.md``).

Answers are JSON documents of :mod:`tqserver.model.status`; streams are JSON lines without an end. A refusal is
``{"error": Refusal}``. Routes carry the version; within one, members are only added.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tqserver.control import logs, status
from tqserver.control.check import check
from tqserver.control.metrics_port import Metrics
from tqserver.control.operations import Operations
from tqserver.control.running import Running
from tqserver.model.errors import NotFound, TimedOut, TQError
from tqserver.model.pages import find
from tqserver.model.status import Logs, Outcomes, PageLog, Refusal
from tqserver.wire.codec import to_json

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
MOST = 2**63 - 1
MOST_LINES = 10_000  # of one page, in one answer
_TRUE = ("1", "true", "yes")


class Admin:
    """The routes; each asks ``running`` anew."""

    def __init__(self, running: Callable[[], Running], metrics: Metrics) -> None:
        self._running = running
        self._operations = Operations(running)
        self.app = Starlette(
            routes=[
                Route("/v1/status", self.status),
                Route("/v1/routes", self.routes),
                Route("/v1/check", self.check),
                Route("/v1/events", self.events),
                Route("/v1/logs", self.logs),
                Route("/v1/wait", self.wait),
                Route("/v1/revisions", self.revisions),
                Route("/v1/reload", self.reload, methods=["POST"]),
                Route("/metrics", metrics.answer),
                Route("/v1/rollback", self.rollback, methods=["POST"]),
            ],
            exception_handlers={TQError: _refuse, HTTPException: _refuse_http},
        )

    # --- documents ----------------------------------------------------------------------------------------

    async def status(self, _: Request) -> Response:
        """The status of everything."""
        return _document(status.observe(self._running()))

    async def routes(self, request: Request) -> Response:
        """The routing table; ``explain=URL``: which page answers that, and why."""
        return _document(status.routes(self._running().site.found, request.query_params.get("explain")))

    async def check(self, _: Request) -> Response:
        """What ``tqserver check`` finds in the files as they are now."""
        running = self._running()
        return _document(check(running.project, running.config_file))

    async def revisions(self, request: Request) -> Response:
        """The last revisions of ``route`` (all pages)."""
        running, route = self._running(), _route(request)
        names = [find(running.site.reconcilers, route)] if route else sorted(running.site.reconcilers)
        return _document(status.revisions(running, names))

    # --- actions ------------------------------------------------------------------------------------------

    async def wait(self, request: Request) -> Response:
        """Answer when ``route`` (all pages) has settled; ``timeout`` in seconds."""
        return _document(await self._operations.wait(_route(request), _seconds(request, "timeout")))

    async def reload(self, request: Request) -> Response:
        """Make a new revision of ``route`` (all pages); answer when it has settled."""
        outcomes: Outcomes = await self._operations.reload(_route(request))
        return _document(outcomes)

    async def rollback(self, request: Request) -> Response:
        """Bring back ``revision`` (the one before the live one) of ``route``; answer when it is live."""
        number = _whole(request, "revision", 0) or None
        return _document(await self._operations.rollback(_one_route(request), number))

    # --- streams ------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        """The events after number ``after``; with ``follow``, also those to come."""
        events = self._running().events
        after = _whole(request, "after", 0)
        return _lines(events.follow(after) if _follows(request) else _all(events.since(after)))

    async def logs(self, request: Request) -> Response:
        """The last ``lines`` of the output of ``route`` (all pages); with ``follow``, lines as they are printed."""
        running, route = self._running(), _route(request)
        count = _whole(request, "lines", 100, MOST_LINES)
        names = [find(running.site.found.pages, route)] if route else sorted(running.site.found.pages)
        if _follows(request):
            return _lines(self._followed(running, names, count, frozenset(names) if route else None))
        return _document(Logs([await _end_of(running, name, count) for name in names]))

    @staticmethod
    async def _followed(
        running: Running, names: list[str], count: int, pages: frozenset[str] | None
    ) -> AsyncIterator[str]:
        follower = running.output.follow(pages)  # before the files are read: what is printed meanwhile is not missed
        try:
            for name in names:
                end = await _end_of(running, name, count)
                for text in end.lines:
                    yield _line({"page": end.page, "text": text})
            async for line in follower.lines():
                yield _line({"page": line.page, "text": line.text} | ({"lost": line.lost} if line.lost else {}))
        finally:
            running.output.leave(follower)


async def _end_of(running: Running, page: str, count: int) -> PageLog:
    """A log has lines of any length: nobody else waits while it is read."""
    return await asyncio.to_thread(logs.end_of, running.project, running.config, page, count)


# --- requests ---------------------------------------------------------------------------------------------


def _route(request: Request) -> str:
    return request.query_params.get("route", "")


def _one_route(request: Request) -> str:
    if route := _route(request):
        return route
    raise NotFound("no route is given", remedy="name the page with ?route=")


def _follows(request: Request) -> bool:
    return request.query_params.get("follow", "") in _TRUE


def _whole(request: Request, name: str, default: int, most: int = MOST) -> int:
    given = request.query_params.get(name, str(default))
    number = int(given) if given.isdecimal() and len(given) <= len(str(MOST)) else -1
    if not 0 <= number <= most:
        raise NotFound(f"{name} is {given[:40]!r}, not a whole number up to {most}")
    return number


def _seconds(request: Request, name: str) -> float | None:
    given = request.query_params.get(name)
    try:
        seconds = float(given) if given is not None else None
    except ValueError:
        seconds = -1.0
    if seconds is not None and not seconds >= 0:
        raise NotFound(f"{name} is {given!r}, not a number of seconds")
    return seconds


# --- responses --------------------------------------------------------------------------------------------


def _document(value: Any) -> Response:
    return Response(to_json(value) + b"\n", media_type=JSON)


def _line(value: Any) -> str:
    return to_json(value).decode() + "\n"


def _lines(lines: AsyncIterator[str]) -> Response:
    return StreamingResponse(lines, media_type=JSON_LINES)


async def _all(lines: Iterable[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, TQError)
    refusal = Refusal(error.message, error.remedy, str(error.location or ""), error.output, error.exit_code)
    code = HTTPStatus.CONFLICT
    if isinstance(error, NotFound):
        code = HTTPStatus.NOT_FOUND
    elif isinstance(error, TimedOut):
        code = HTTPStatus.GATEWAY_TIMEOUT
    return Response(to_json({"error": refusal}) + b"\n", code, media_type=JSON)


async def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.detail, remedy="docs/admin.md lists what there is")
    return Response(to_json({"error": refusal}) + b"\n", error.status_code, error.headers, media_type=JSON)
