"""WebSocket through the proxy: both ways, across reloads, closed politely."""

from __future__ import annotations

import contextlib

import pytest

from tests.system.client import WebSocket
from tests.system.harness import Server

ECHO = """\
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

VERSION = "@VERSION@"


async def page(request):
    return PlainTextResponse(VERSION)


async def echo(socket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{VERSION} {text}")


app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", echo)])
"""


def started(server: Server, settings: str) -> Server:
    server.configure(settings)
    server.page("chat", ECHO.replace("@VERSION@", "v0"))
    server.start()
    server.wait_body("/chat/", "v0")
    return server


def test_messages_go_both_ways(server: Server) -> None:
    started(server, "")
    with contextlib.closing(WebSocket(server.port, "/chat/ws")) as socket:
        for text in ("hello", "ä" * 300, "x" * 20_000):
            socket.send(text)
            assert socket.receive() == f"v0 {text}"


def test_a_connection_outlives_a_reload_within_the_drain(server: Server) -> None:
    started(server, "workers:\n  default:\n    drain_timeout_seconds: 60\n")
    with contextlib.closing(WebSocket(server.port, "/chat/ws")) as old:
        server.edit("pages/chat/main.py", ECHO.replace("@VERSION@", "v1"))
        server.wait_body("/chat/", "v1")
        old.send("still here")
        assert old.receive() == "v0 still here"
        with contextlib.closing(WebSocket(server.port, "/chat/ws")) as new:
            new.send("hello")
            assert new.receive() == "v1 hello"


def test_after_the_drain_it_is_closed_politely(server: Server) -> None:
    """1012 is Service Restart: clients connect again."""
    started(server, "workers:\n  default:\n    drain_timeout_seconds: 0.2\n")
    with contextlib.closing(WebSocket(server.port, "/chat/ws")) as old:
        old.send("hello")
        assert old.receive() == "v0 hello"
        server.edit("pages/chat/main.py", ECHO.replace("@VERSION@", "v1"))
        server.wait_body("/chat/", "v1")
        assert old.receive() == 1012
    server.wait_log("revision.retired", page="chat")


def test_no_route_no_upgrade(server: Server) -> None:
    started(server, "")
    with pytest.raises(ConnectionError, match=" 404 "):
        WebSocket(server.port, "/nowhere")
