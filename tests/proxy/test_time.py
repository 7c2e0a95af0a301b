"""Timeouts bound silence, and not the length of what goes on."""

from __future__ import annotations

import time

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page, post
from tqserver.wire.messages import RouteLimits, ServerLimits

SHORT = 0.1


def test_a_worker_that_does_not_answer(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(write_timeout_seconds=SHORT)))
    client = proxy.connect().send(get())
    connection = worker.accept()
    connection.head()
    assert client.response().status == 504
    assert connection.is_ended()
    client.send(get())
    worker.serve(ok())
    assert client.response().status == 200


def test_a_worker_that_falls_silent_within_its_answer(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(write_timeout_seconds=SHORT)))
    client = proxy.connect().send(get())
    worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    client.head()
    client.until(b"half\r\n")
    assert client.is_ended()


def test_a_long_answer_that_goes_on_is_not_cut(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(write_timeout_seconds=1.0)))
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        connection.send(b"1\r\nx\r\n")
        assert client.exactly(6) == b"1\r\nx\r\n"
        time.sleep(0.2)


def test_a_client_that_stops_in_its_body(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(read_timeout_seconds=SHORT)))
    client = proxy.connect().send(post(b"whole")[:-2])
    connection = worker.accept()
    connection.head()
    response = client.response()
    assert (response.status, response.head["Connection"]) == (408, b"close")
    assert client.rest() == b""
    assert connection.exactly(3) and connection.is_ended()


def test_a_head_that_comes_too_slowly(proxy: Proxy) -> None:
    proxy.route(limits=ServerLimits(read_timeout_seconds=SHORT))
    client = proxy.connect().send(get()[:-2])
    assert client.response().status == 408
    assert client.rest() == b""


def test_an_idle_connection_is_closed(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker), limits=ServerLimits(idle_timeout_seconds=SHORT))
    client = proxy.connect().send(get())
    worker.serve(ok())
    client.response()
    assert client.rest() == b""


def test_an_idle_connection_to_a_worker_is_closed(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(worker_idle_seconds=SHORT)))
    client = proxy.connect().send(get())
    connection, _ = worker.serve(ok())
    client.response()
    assert connection.rest() == b""


def test_a_client_that_does_not_read_is_given_up(proxy: Proxy, worker: Worker) -> None:
    limits = RouteLimits(write_timeout_seconds=SHORT)
    proxy.route(page(worker, limits=limits), limits=ServerLimits(write_timeout_seconds=SHORT))
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            connection.send(b"x" * 1_000_000)
    client.close()
