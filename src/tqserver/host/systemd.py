"""What a service manager says to us and hears from us: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

The protocol is a datagram and three variables, so there is no library. Without a service manager all of it does
nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

from tqserver.model.errors import HostError

FIRST_LISTENER = 3  # SD_LISTEN_FDS_START


class ServiceManager:
    """Takes what concerns this process out of its environment, so that no child takes it for its own."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.listeners = _listeners(environ)
        self._watchdog_limit = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = _watchdog_seconds(environ)

    def hand_on(self, environ: MutableMapping[str, str]) -> None:
        """Let a server that takes over speak to the service manager too."""
        if self._address:
            environ["NOTIFY_SOCKET"] = self._address
        if self.watchdog_seconds:
            environ["WATCHDOG_USEC"] = self._watchdog_limit

    def say(self, *assignments: str) -> None:
        """Send ``VARIABLE=VALUE`` lines; a service manager that does not listen is none of our concern."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.connect(address)
            sock.send("\n".join(assignments).encode())


def _listeners(environ: MutableMapping[str, str]) -> list[socket.socket]:
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    try:
        listeners = [socket.socket(fileno=FIRST_LISTENER + number) for number in range(int(count))]
    except OSError as error:
        raise HostError(
            f"LISTEN_FDS says that {count} sockets are passed from descriptor {FIRST_LISTENER} on: {error.strerror}",
            remedy="unset LISTEN_FDS and LISTEN_PID, or pass them",
        ) from error
    for listener in listeners:
        listener.set_inheritable(False)
        listener.setblocking(False)
    return listeners


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float:
    """Return how often to say WATCHDOG=1: twice as often as asked for; 0 is never."""
    pid, limit = environ.pop("WATCHDOG_PID", str(os.getpid())), environ.pop("WATCHDOG_USEC", "")
    return int(limit) / 2e6 if limit.isdigit() and pid == str(os.getpid()) else 0.0
