"""Back-pressure both ways: what the proxy holds is bounded, and nothing is lost by it."""

from __future__ import annotations

import hashlib
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proxy.rig import Proxy, Worker, get, ok, post

MEGABYTE = 1_000_000
HELD_AT_MOST = 3 * MEGABYTE


def test_a_client_that_does_not_read_slows_the_worker_down(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    client.head()
    before = proxy.resident_bytes()
    sent = connection.fill(b"x" * MEGABYTE)
    assert sent < 50 * MEGABYTE
    assert proxy.resident_bytes() - before < HELD_AT_MOST
    client.exactly(sent)
    assert connection.fill(b"y" * MEGABYTE) > MEGABYTE  # it goes on


def test_a_worker_that_does_not_read_slows_the_client_down(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    connection = worker.accept()
    connection.head()
    before = proxy.resident_bytes()
    sent = client.fill(b"x" * MEGABYTE)
    assert sent < 50 * MEGABYTE
    assert proxy.resident_bytes() - before < HELD_AT_MOST
    connection.exactly(sent)
    assert client.fill(b"y" * MEGABYTE) > MEGABYTE
    connection.close()


def test_a_client_that_pipelines_and_does_not_read(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get("/0"))
    connection, _ = worker.serve(ok(b"x" * 50_000))
    before = proxy.resident_bytes()
    client.send(get() * 200)
    connection.sock.settimeout(0.5)
    answered = 1
    try:
        while True:
            connection.head()
            connection.send(ok(b"x" * 50_000))
            answered += 1
    except TimeoutError:
        pass  # it asks no more
    assert proxy.resident_bytes() - before < HELD_AT_MOST
    connection.sock.settimeout(10)
    for _ in range(answered):
        assert len(client.response().body) == 50_000


def test_large_bodies_arrive_whole(proxy: Proxy, worker: Worker) -> None:
    body = random.Random(1).randbytes(3 * MEGABYTE)
    client = proxy.connect()
    head, _, content = post(body).partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n", content[:1000])
    connection = worker.accept()
    connection.head()
    received = connection.exactly(1000)
    for position in range(1000, len(content), 100_000):
        piece = content[position : position + 100_000]
        client.send(piece)
        received += connection.exactly(len(piece))
    assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    echoed = b""
    for position in range(0, len(body), 100_000):
        piece = body[position : position + 100_000]
        connection.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        while len(echoed) < position + len(piece):
            size = int(client.until(b"\r\n"), 16)
            echoed += client.exactly(size)
            client.exactly(2)
    connection.send(b"0\r\n\r\n")
    assert client.chunks() == b""
    assert hashlib.sha256(echoed).digest() == hashlib.sha256(body).digest()


REQUESTS = (
    b"POST /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n"
    b"PUT /b HTTP/1.1\r\nHost: b\r\nX-Request-Id: two\r\nContent-Length: 5\r\n\r\nhello"
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(REQUESTS) - 1), max_size=6, unique=True).map(sorted))
def test_however_requests_are_split_the_worker_sees_the_same(proxy: Proxy, worker: Worker, cuts: list[int]) -> None:
    client = proxy.connect()
    pieces = [REQUESTS[a:b] for a, b in zip([0, *cuts], [*cuts, len(REQUESTS)], strict=True)]
    client.send(*pieces)
    first = worker.current()
    head = first.head()
    assert (head.line, head["X-Request-Id"]) == (b"POST /a HTTP/1.1", b"one")
    assert first.chunks() == b"abc0123456789abcdef"
    first.send(ok())
    assert client.response().status == 200
    head = first.head()
    assert (head.line, head["X-Request-Id"], head["Host"]) == (b"PUT /b HTTP/1.1", b"two", b"b")
    assert first.exactly(5) == b"hello"
    first.send(ok())
    assert client.response().status == 200
    client.close()
