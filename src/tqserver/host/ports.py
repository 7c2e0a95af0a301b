"""The pool that a worker's ``PORT`` is taken from: 127.0.0.1, probed, never handed out twice."""

from __future__ import annotations

import socket
from collections import deque

from tqserver.model.errors import HostError


class PortPool:
    """Ports ``first..last``. A port comes back only after its process was reaped, and goes to the end of the line."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._free = deque(range(first, last + 1))
        self._taken: set[int] = set()

    def resize(self, first: int, last: int) -> None:
        """Take from ``first..last`` from now on; what is taken stays taken until it is given back."""
        self._first, self._last = first, last
        self._free = deque(port for port in range(first, last + 1) if port not in self._taken)

    def take(self) -> int:
        """Return a port on which nothing listens. Raises :class:`HostError` when there is none."""
        for _ in range(len(self._free)):
            port = self._free.popleft()
            if _can_bind(port):
                self._taken.add(port)
                return port
            self._free.append(port)  # a stranger's, perhaps only for now
        raise HostError(
            f"no free port between {self._first} and {self._last}: {len(self._taken)} are in use by workers",
            remedy="widen workers.port_range_start..port_range_end, or let pages listen on TQ_SOCKET",
        )

    def give_back(self, port: int) -> None:
        """Return a port whose process has been reaped."""
        if port in self._taken:
            self._taken.discard(port)
            if self._first <= port <= self._last:
                self._free.append(port)


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
