"""Granian on the worker's socket: the one module that knows it.

Lifespan events are driven here rather than by Granian, so that a failing startup is the page's error, with its
traceback, and Ready is sent when both the app has started and the socket accepts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from tqserver.model.errors import StartError
from tqserver.worker.adapters import App

BACKLOG = 2048


def run(app: App, wants_lifespan: bool, path: str, grace_seconds: float, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM. Raises :class:`StartError` if the app's startup fails."""
    logging.getLogger("_granian").setLevel(logging.ERROR)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, wants_lifespan, path, grace_seconds, on_ready))


async def _serve(app: App, wants_lifespan: bool, path: str, grace_seconds: float, on_ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    lifespan = Lifespan(app)
    if wants_lifespan:
        await lifespan.startup()
    server = Server(
        app,
        uds=Path(path),
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=True,
        log_enabled=False,
        backlog=BACKLOG,
        backpressure=BACKLOG,
    )
    serving = loop.create_task(server.serve())
    await _until_it_accepts(path, serving)
    os.chmod(path, 0o600)
    on_ready()
    await stop.wait()
    server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
    await asyncio.wait([serving], timeout=grace_seconds)
    if wants_lifespan:
        await lifespan.shutdown()


async def _until_it_accepts(path: str, serving: asyncio.Task[Any]) -> None:
    while not serving.done():
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0)
            continue
        writer.close()
        return
    await serving
    raise StartError(f"cannot listen on {path}")


class Lifespan:
    """The ASGI lifespan protocol (asgiref specs/lifespan) for one app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the app. An app that raises before it answers has no lifespan, as the specification says."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._to_app.put({"type": "lifespan.startup"})
        answer = await self._from_app.get()
        if answer["type"] == "lifespan.startup.failed":
            raise StartError(
                "its lifespan startup failed", output=str(answer.get("message", "")), remedy="see its output"
            )

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        call: Awaitable[None] = self._app(scope, self._to_app.get, self._from_app.put)
        try:
            await call
        except Exception:
            traceback.print_exc()
        await self._from_app.put({"type": "lifespan.ended"})

    async def shutdown(self) -> None:
        """Stop the app, if it takes part."""
        if self._task is not None and not self._task.done():
            await self._to_app.put({"type": "lifespan.shutdown"})
            await self._from_app.get()
