"""``GET /metrics``: on the admin socket, and by ``server.metrics`` on a port that has nothing else.

Whoever can reach the port may read it; it tells routes and figures, and changes nothing. On a loopback address it
is asked by name of this machine only: a page in a browser that has a name of its own point here is refused
(pitfall 30).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tqserver.control.exposition import render
from tqserver.control.metrics import read
from tqserver.control.running import Running
from tqserver.control.serving import Serving
from tqserver.host import sockets
from tqserver.host.log import get_logger

_FOREIGN = "server.metrics listens on a loopback address: ask for it as localhost, or by the address\n"
log = get_logger("metrics")


class Metrics:
    """Answers with what is measured at this moment."""

    def __init__(self, running: Callable[[], Running]) -> None:
        self._running = running
        self._rendering = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """The text; made by another thread, one at a time, for it may be long: so it delays nothing else."""
        async with self._rendering:
            accept = request.headers.get("accept", "")
            text, media_type = await asyncio.to_thread(render, read(self._running()), accept)
        return Response(text, headers={"content-type": media_type})


class MetricsPort:
    """The port of ``server.metrics``, while there is one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._serving: Serving | None = None
        self._moving = asyncio.Lock()
        self.listener: socket.socket | None = None

    async def listen(self, listener: socket.socket | None) -> None:
        """Answer on this socket from now on, and no longer on that before it; None is nowhere."""
        async with self._moving:
            if listener is not self.listener:
                self.close()
                if listener is not None:
                    await self._serve(listener)

    async def _serve(self, listener: socket.socket) -> None:
        url, is_local = sockets.url_of(listener), ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        self.listener, self._serving = listener, Serving(self._app(is_local=is_local))
        await self._serving.start(listener)
        log.info("metrics.ready", url=f"{url}/metrics")

    def close(self) -> None:
        """Answer nobody any more."""
        if self._serving is not None:
            self._serving.stop()
        self._serving = self.listener = None

    def _app(self, *, is_local: bool) -> Starlette:
        async def answer(request: Request) -> Response:
            if is_local and not _names_this_machine(request.headers.get("host", "localhost")):
                return PlainTextResponse(_FOREIGN, 403)
            return await self._metrics.answer(request)

        return Starlette(routes=[Route("/metrics", answer)])


def _names_this_machine(host: str) -> bool:
    """Tell whether a Host field is an address or ``localhost``: such a name nobody else can have point here."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
