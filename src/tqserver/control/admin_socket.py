"""HTTP on ``.tqserver/admin.sock``, within control's event loop.

uvicorn's protocol does the bytes; its ``Server`` is left out, since that takes the process's signals, wakes ten
times a second, and takes 0.1 s to stop (``docs/decisions/0010``). Whoever may open the socket, may do everything: it
is its owner's alone, in a directory that is its owner's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tqserver.host.log import get_logger
from tqserver.host.sockets import listen_unix

_LOGGER = "uvicorn.error"
log = get_logger("admin")


class AdminSocket:
    """The socket, and those who are connected to it."""

    def __init__(self, path: Path, app: Callable[..., Any]) -> None:
        self._path = path
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
        self._inode = 0

    async def open(self) -> None:
        """Listen. Raises :class:`~tqserver.model.errors.HostError`."""
        _hand_on(_LOGGER, _Relay(logging.WARNING))
        self._config.load()
        listener = listen_unix(self._path)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.get_running_loop().create_unix_server(self._protocol, sock=listener)

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self._config, self._state, {})

    def close(self) -> None:
        """Remove the socket and end every connection at once."""
        if self._server is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # not that of a server that has taken over
                self._path.unlink()
        self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        _hand_on(_LOGGER, logging.NullHandler())  # it calls a request that is cut short an exception
        for task in list(self._state.tasks):
            task.cancel()


class _Relay(logging.Handler):
    """Hands what a library logs to our log: a traceback there is a defect of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, "admin.error", error=record.getMessage(), exc_info=record.exc_info)


def _hand_on(name: str, handler: logging.Handler) -> None:
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [handler], False
