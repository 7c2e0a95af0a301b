"""Streams are passed on as they come, and end when they end."""

from __future__ import annotations

import socket
import threading

from tests.system import client, sources
from tests.system.harness import Server

# Each event is sent only after the file that the test makes is there: what arrives was not buffered.
EVENTS = """\
import asyncio
from pathlib import Path
from starlette.responses import StreamingResponse

VERSION = "@VERSION@"


async def get(request):
    if request.url.path.endswith("/version"):
        return VERSION
    return StreamingResponse(events(), media_type="text/event-stream")


async def events():
    for number in range(4):
        while not Path(f"tick-{number}").exists():
            await asyncio.sleep(0.005)
        yield f"data: {VERSION} {number}\\n\\n"
"""


def test_events_arrive_one_by_one_across_reloads(server: Server) -> None:
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 60\n")
    server.page("events", EVENTS.replace("@VERSION@", "v0"))
    server.start()
    server.wait_body("/events/version", "v0")
    with server.connection() as connection:
        response = connection.begin("/events")
        assert response.getheader("content-type", "").startswith("text/event-stream")
        for number in range(4):
            server.write(f"tick-{number}", "")
            expected = f"data: v0 {number}\n\n".encode()
            assert response.read(len(expected)) == expected
            server.edit("pages/events/main.py", EVENTS.replace("@VERSION@", f"v{number + 1}"))
            server.wait_body("/events/version", f"v{number + 1}")
        assert response.read() == b""


def test_a_stream_is_cut_after_the_drain_and_seen_to_be(server: Server) -> None:
    """A chunked body that was cut must not look whole."""
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 0.2\n")
    server.page("events", EVENTS.replace("@VERSION@", "v0"))
    server.start()
    server.wait_body("/events/version", "v0")
    server.write("tick-0", "")
    request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=client.TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        received = b""
        while b"data: v0 0\n\n" not in received:
            received += connection.recv(4096)
        server.edit("pages/events/main.py", EVENTS.replace("@VERSION@", "v1"))
        try:
            while piece := connection.recv(4096):
                received += piece
        except ConnectionResetError:
            pass
    assert not received.endswith(b"0\r\n\r\n")
    server.wait_body("/events/version", "v1")
    server.wait_log("revision.retired", page="events")


def test_a_slow_upload_and_its_echo(server: Server) -> None:
    """A body arrives whole, piece by piece, also when the page was reloaded meanwhile."""
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 60\n")
    server.page("echo", sources.functions("v0"))
    server.start()
    server.wait_body("/echo", "v0")
    pieces = [bytes([65 + number]) * 30_000 for number in range(10)]
    head = (
        f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=client.TIMEOUT_SECONDS) as connection:
        connection.sendall(head.encode())
        for number, piece in enumerate(pieces):
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            if number == 5:
                server.edit("pages/echo/main.py", sources.functions("v1"))
                server.wait_body("/echo", "v1")
        connection.sendall(b"0\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"v0 " + b"".join(pieces))


def test_a_large_body_each_way(server: Server) -> None:
    server.page("echo", sources.functions("v0"))
    server.start()
    server.wait_body("/echo", "v0")
    sent = bytes(range(256)) * 40_000  # 10 MB
    answers: list[client.Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(server.get("/echo", "POST", sent))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(client.TIMEOUT_SECONDS)
    assert [answer.status for answer in answers] == [200, 200]
    assert all(answer.body == b"v0 " + sent for answer in answers)
