"""Granian on the worker's socket: the one module that knows it.

Lifespan events are driven by ``lifespan`` rather than by Granian, so that a failing startup is the page's
error, with its traceback, and Ready is sent when both the app has started and the socket accepts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from tqserver.host import clock
from tqserver.model.errors import StartError
from tqserver.wire.messages import PageSpec
from tqserver.worker.adapters import THREADS
from tqserver.worker.lifespan import Lifespan

_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
_MOST_CONNECTIONS = 65536  # Granian's "backpressure"; what waits beyond it, waits in the backlog
_DAY_MILLISECONDS = 24 * 3600 * 1000
# Granian counts the time between two requests as the time that the second's head takes. The only client is a
# proxy, whose pool closes idle connections itself, and before we do: no request meets one that is closing.
_HTTP1 = HTTP1Settings(header_read_timeout=_DAY_MILLISECONDS, keep_alive=True)
# Granian would set up logging anew and so close the handlers that the page has made; "incremental" only sets
# levels. An app's exceptions go where the page sends its log, or to stderr.
_LOGGING = {
    "incremental": True,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}},
}


def run(app: ASGIApp, spec: PageSpec, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM, then finish what is in flight. Raises :class:`StartError` if it cannot start."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="page"))
    # The loop is not closed: that would wait for threads, and this process is about to exit.
    loop.run_until_complete(_serve(app, spec, on_ready))


async def _serve(app: ASGIApp, spec: PageSpec, on_ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    lifespan = Lifespan(app)
    await lifespan.startup()
    server = _server(_with_state(app, lifespan.state), spec.socket)
    serving = loop.create_task(server.serve())
    await _until_it_accepts(spec.socket, serving)
    on_ready()
    await stop.wait()
    deadline = clock.monotonic() + spec.shutdown_grace_seconds
    server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
    await asyncio.wait([serving], timeout=spec.shutdown_grace_seconds)
    await lifespan.shutdown(max(deadline - clock.monotonic(), 0.0))


def _with_state(app: ASGIApp, state: dict[str, object]) -> ASGIApp:
    """Give each request a copy of what the app's startup has put into the state (asgiref, lifespan)."""
    if not state:
        return app

    def called(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["state"] = state.copy()
        return app(scope, receive, send)

    return called


def _server(app: ASGIApp, path: str) -> Server:
    server = Server(
        app,
        uds=Path(path),
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=_HTTP1,
        websockets=True,
        backlog=_BACKLOG,
        backpressure=_MOST_CONNECTIONS,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGING,
    )
    # Bound, and not yet listening: nobody can connect before the mode is right.
    server.on_startup(lambda: os.chmod(path, 0o600))
    return server


async def _until_it_accepts(path: str, serving: asyncio.Task[None]) -> None:
    """Return once a connection was accepted by the kernel. Raises :class:`StartError` if Granian gives up."""
    while not serving.done():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) == 0:
                return
        await asyncio.sleep(0)  # a turn of the loop, in which Granian starts
    error = serving.exception()
    raise StartError(f"cannot listen on {path}: {error or 'Granian stopped'}") from error
