"""TLS: connections are accepted here, and are clients once they have shaken hands.

uvloop's own TLS server is not used: it says nothing of handshakes that are under way, so a proxy that leaves would
reset them, and it keeps its first certificate.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from tqserver.host.tasks import TaskOwner
from tqserver.proxy.downstream import Downstream

MOST_SECONDS = 60.0  # for a handshake, where a head may take for ever
_ACCEPTED_AT_ONCE = 64
_NO_DESCRIPTOR_PAUSE_SECONDS = 0.5
_FOR_EVER = 1e6  # a connection that is being closed is bounded by its own deadlines


class Handshakes:
    """The handshakes that are under way, ``most`` at once: of more, that which takes longest is given up.

    ``context`` is that of those that begin from now on; ``seconds`` tells how long each may take.
    """

    context: ssl.SSLContext

    def __init__(
        self, make: Callable[[], Downstream], seconds: Callable[[], float], most: int, tasks: TaskOwner
    ) -> None:
        self._make = make
        self._seconds = seconds
        self._most = most
        self._tasks = tasks
        self._under_way: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._listener: socket.socket | None = None

    def __len__(self) -> int:
        return len(self._under_way)

    # --- accept -------------------------------------------------------------------------------------------

    def accept_from(self, listener: socket.socket) -> None:
        """Accept, from now on."""
        self._listener = listener
        self._accept_again()

    def stop_accepting(self) -> None:
        """Leave what comes to the kernel's queue, and to the other proxies."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener = None

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):  # none is left; or one that has gone again
                return
            except OSError:  # no descriptor is left
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener.fileno())
                loop.call_later(_NO_DESCRIPTOR_PAUSE_SECONDS, self._accept_again)
                return
            self.begin(connection)

    # --- shake hands --------------------------------------------------------------------------------------

    def begin(self, connection: socket.socket) -> None:
        """Shake hands with who has connected."""
        connection.setblocking(False)
        if len(self._under_way) >= self._most:
            next(iter(self._under_way)).cancel()
        task = self._tasks.start(self._shake_hands(connection), name="handshake")
        self._under_way[task] = None
        task.add_done_callback(self._under_way.pop)

    async def _shake_hands(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                connection,
                ssl=self.context,
                ssl_handshake_timeout=min(self._seconds(), MOST_SECONDS),
                ssl_shutdown_timeout=_FOR_EVER,
            )
        except OSError:  # ssl.SSLError is one: no TLS, none that both speak, too slow, gone
            return
