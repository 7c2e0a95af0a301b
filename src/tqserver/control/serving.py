"""HTTP within control's event loop: an application of Starlette on a listening socket.

uvicorn's protocol does the bytes; its ``Server`` is left out, since that takes the process's signals, wakes ten
times a second, and takes 0.1 s to stop (``docs/decisions/0010``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tqserver.host.log import get_logger

_LOGGER = "uvicorn.error"
log = get_logger("admin")


class Serving:
    """One application, and those who are connected to it."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept from a listening socket, which is this one's from now on."""
        self._config.load()
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        self._server = await create(self._protocol, sock=listener)

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self._config, self._state, {})

    def stop(self) -> None:
        """Accept nobody any more; what is being answered still is."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    def abort(self) -> None:
        """End every connection at once, and what is done for them."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()


class _Relay(logging.Handler):
    """Hands what a library logs to our log: a traceback there is a defect of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, "admin.error", error=record.getMessage(), exc_info=record.exc_info)


def listen_to_errors(*, yes: bool) -> None:
    """Log what fails within a request; not at the end, since a request that is cut short is called an exception."""
    logger = logging.getLogger(_LOGGER)
    logger.handlers, logger.propagate = [_Relay(logging.WARNING) if yes else logging.NullHandler()], False
