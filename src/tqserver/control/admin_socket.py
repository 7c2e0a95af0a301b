"""HTTP on ``.tqserver/admin.sock``, within control's event loop.

Whoever may open the socket, may do everything: it is its owner's alone, in a directory that is its owner's alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqserver.control.serving import Serving, listen_to_errors
from tqserver.host.sockets import listen_unix


class AdminSocket:
    """The socket, and those who are connected to it."""

    def __init__(self, path: Path, app: Callable[..., Any]) -> None:
        self._path = path
        self._serving = Serving(app)
        self._inode = 0

    async def open(self) -> None:
        """Listen. Raises :class:`~tqserver.model.errors.HostError`."""
        listen_to_errors(yes=True)
        listener = listen_unix(self._path)
        self._inode = self._path.stat().st_ino
        await self._serving.start(listener)

    def close(self) -> None:
        """Remove the socket and end every connection at once."""
        if not self._inode:
            return
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # not that of a server that has taken over
                self._path.unlink()
        listen_to_errors(yes=False)
        self._serving.abort()
