"""WebSocket and other upgrades: bytes both ways, and how a tunnel ends."""

from __future__ import annotations

import pytest

from tests.proxy.rig import Proxy, Wire, Worker, get, ok, page, post
from tqserver.proxy.tunnel import FrameBoundary
from tqserver.wire.messages import Cut, Drained

UPGRADE = get("/ws", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


def tunnel(proxy: Proxy, worker: Worker) -> tuple[Wire, Wire]:
    client = proxy.connect().send(UPGRADE)
    connection, request = worker.serve(SWITCHING)
    assert request["Connection"] == b"Upgrade"
    assert request["Upgrade"] == b"websocket"
    head = client.head()
    assert head.line == b"HTTP/1.1 101 Switching Protocols"
    assert head["Upgrade"] == b"websocket"
    assert head["Sec-WebSocket-Accept"] == b"y"
    return client, connection


def test_bytes_pass_both_ways(proxy: Proxy, worker: Worker) -> None:
    client, connection = tunnel(proxy, worker)
    for word in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff" * 1000):
        client.send(word)
        assert connection.exactly(len(word)) == word
        connection.send(word)
        assert client.exactly(len(word)) == word
    client.close()
    assert connection.is_ended()


def test_bytes_that_came_early_are_not_lost(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(UPGRADE + b"early")
    connection, _ = worker.serve(SWITCHING + b"also early")
    client.head()
    assert client.exactly(10) == b"also early"
    assert connection.exactly(5) == b"early"


def test_the_worker_ends_the_tunnel(proxy: Proxy, worker: Worker) -> None:
    client, connection = tunnel(proxy, worker)
    connection.send(b"bye").close()
    assert client.rest() == b"bye"


def test_a_worker_may_decline(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(UPGRADE)
    worker.serve(ok(b"no"))
    assert client.response().body == b"no"


def test_a_length_of_nothing_is_no_body_and_no_reason_to_decline(proxy: Proxy, worker: Worker) -> None:
    proxy.connect().send(get("/", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 0"))
    _, request = worker.serve(ok())
    assert request["Upgrade"] == b"websocket"
    assert request["Connection"] == b"Upgrade"
    assert request["Content-Length"] == b"0"


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        get("/", "Upgrade: websocket"),
        post(b"x", "Connection: Upgrade", "Upgrade: websocket"),
        get("/", "Connection: Upgrade", "Upgrade: websocket").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_upgrades_that_are_not_passed_on(proxy: Proxy, worker: Worker, request_bytes: bytes) -> None:
    proxy.connect().send(request_bytes)
    _, request = worker.serve(ok())
    assert "Upgrade" not in request
    assert "HTTP2-Settings" not in request


def test_a_tunnel_is_in_flight_until_it_ends(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client, connection = tunnel(proxy, worker)
    proxy.route(page(other))
    client.send(b"still here")
    assert connection.exactly(10) == b"still here"
    assert not proxy.has_heard(Drained)
    client.close()
    proxy.hear(Drained, worker=worker.number)


def test_cut_says_goodbye_between_two_frames(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client, connection = tunnel(proxy, worker)
    connection.send(b"\x81\x05hello")
    assert client.exactly(7) == b"\x81\x05hello"
    proxy.route(page(other))
    proxy.tell(Cut(worker.number))
    assert client.rest() == b"\x88\x02\x03\xf4"  # RFC 6455 7.4.1: 1012, service restart
    assert connection.is_ended()
    proxy.hear(Drained, worker=worker.number)


def test_cut_within_a_frame_just_ends(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client, connection = tunnel(proxy, worker)
    connection.send(b"\x81\x05hel")
    assert client.exactly(5) == b"\x81\x05hel"
    proxy.route(page(other))
    proxy.tell(Cut(worker.number))
    assert client.is_ended()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_frames_are_followed_however_they_are_split(step: int) -> None:
    frames = [
        b"\x81\x00",
        b"\x81\x05hello",
        b"\x82\x7e" + (300).to_bytes(2, "big") + b"x" * 300,
        b"\x82\x7f" + (70000).to_bytes(8, "big") + b"x" * 70000,
        b"\x81\x85mask?????",
    ]
    boundary = FrameBoundary()
    ends = {sum(map(len, frames[: number + 1])) for number in range(len(frames))}
    stream = b"".join(frames)
    for position in range(0, len(stream), step):
        boundary.feed(stream[position : position + step])
        fed = min(position + step, len(stream))
        assert boundary.is_between_frames is (fed in ends)
