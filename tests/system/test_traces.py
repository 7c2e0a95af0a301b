"""Reloads as traces, as a collector gets them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.system import sources
from tests.system.harness import Server, free_port, wait_until


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def resources(self) -> list[dict[str, str]]:
        return [
            {each.key: each.value.string_value for each in group.resource.attributes}
            for _, request in self.requests
            for group in request.resource_spans
        ]

    def traces(self) -> list[list[Any]]:
        """The spans of each reload, the whole one first."""
        return [
            list(scope.spans)
            for _, request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def test_a_reload_is_a_trace(server: Server, collector: Collector) -> None:
    server.expect_errors("build.failed", "page.failed")
    server.page("page", sources.plain("one"))
    server.start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    server.wait_live("page")
    wait_until(lambda: len(collector.traces()) == 1, server.tail)
    server.edit("pages/page/main.py", sources.plain("two"))
    server.wait_log("revision.retired", page="page")
    wait_until(lambda: len(collector.traces()) == 2, server.tail)
    server.edit("pages/page/main.py", "def get(:\n")
    wait_until(lambda: len(collector.traces()) == 3, server.tail)

    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    assert {resource["service.name"] for resource in collector.resources()} == {"tqserver"}
    first, second, third = collector.traces()
    assert [span.name for span in first] == ["reload", "build", "start", "publish"]
    whole, *steps = second
    assert [span.name for span in steps] == ["build", "start", "publish", "drain"]
    assert {span.parent_span_id for span in steps} == {whole.span_id}
    assert {span.trace_id for span in second} == {whole.trace_id}
    said = {each.key: each.value for each in whole.attributes}
    assert (said["http.route"].string_value, said["tqserver.revision"].int_value) == ("/page", 2)
    assert "SyntaxError" in third[0].status.message


def test_a_collector_that_is_not_there_is_said_and_delays_nothing(server: Server) -> None:
    server.page("page", sources.plain("one"))
    server.start(
        env={
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}/v1/traces",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",  # room for a second try, before which it says why
        }
    )
    server.wait_body("/page", "one")
    assert "refused" in server.wait_log("traces.not_exported")["reason"]


def test_without_the_package_it_is_said_once_and_the_server_serves(server: Server) -> None:
    server.write("opentelemetry/__init__.py", "")  # stands before the real one, and has nothing in it
    server.page("page", sources.plain("one"))
    server.start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    server.wait_body("/page", "one")
    (said,) = server.events("traces.not_exported")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in said["reason"]
    assert "pip install 'tqserver[otel]'" in said["remedy"]
