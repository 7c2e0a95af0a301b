"""A new server takes over from the one that runs: new code, the same listening sockets, no request lost.

The old one starts the new one with its lock, its listening socket and a pipe; the new one starts its own workers
and proxies beside those of the old one, and says so by a byte when every page is as ready as it will be. Only then
does the old one drain and end. If the pipe ends without the byte, the old one goes on.

Roads not taken: exec in place (the running workers would lose their parent, and a new version that does not
start would take the old one down); SO_REUSEPORT (connections queued at the old socket are reset, pitfall 3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from tqserver.host.process import Child, python_argv, spawn

VARIABLE = "TQ_TAKE_OVER"
_READY = b"1"
_NONE = -1


@dataclass(frozen=True, slots=True)
class Estate:
    """What a server gets from the one before it: the project's lock, the listening sockets, the pipe to tell it.

    ``entrance`` are those of clients, the main one first; ``metrics`` is that of ``server.metrics``, if it has one.
    """

    lock: int
    entrance: list[socket.socket]
    ready: int
    metrics: socket.socket | None = None

    @classmethod
    def in_environment(cls, environ: MutableMapping[str, str]) -> Estate | None:
        """Return what this process was given, and take it out of the environment."""
        given = environ.pop(VARIABLE, "")
        if not given:
            return None
        numbers = [int(number) for number in given.split(",")]
        for number in numbers:
            if number != _NONE:
                os.set_inheritable(number, False)
        lock, main, ready, *more = numbers
        metrics, redirect = (_socket(number) for number in (*more, _NONE, _NONE)[:2])
        return cls(lock, [sock for sock in (_socket(main), redirect) if sock is not None], ready, metrics)

    def tell(self) -> None:
        """The old server may go."""
        with contextlib.suppress(BrokenPipeError):  # it has gone already
            os.write(self.ready, _READY)
        os.close(self.ready)


def _socket(descriptor: int) -> socket.socket | None:
    return socket.socket(fileno=descriptor) if descriptor != _NONE else None


class Successor:
    """The new server, as the old one sees it."""

    def __init__(self, child: Child, ready: int) -> None:
        self.child = child
        self._ready = ready

    @classmethod
    def start(
        cls,
        project: Path,
        environ: Mapping[str, str],
        lock: int,
        entrance: list[socket.socket],
        metrics: socket.socket | None,
    ) -> Successor:
        """Start it, with the arguments that this one was started with. Raises OSError."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        main, *redirect = (sock.fileno() for sock in entrance)
        given = [lock, main, write_end]
        if metrics is not None or redirect:
            given += [metrics.fileno() if metrics is not None else _NONE, *redirect]
        try:
            child = spawn(
                python_argv("tqserver", *sys.argv[1:]),
                cwd=project,
                env={**environ, VARIABLE: ",".join(map(str, given))},
                pass_fds=[number for number in given if number != _NONE],
                die_with_us=False,
            )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return cls(child, read_end)

    async def is_ready(self) -> bool:
        """Wait until it says so, or ends without; tell which."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ready, readable.set)
        try:
            await readable.wait()
            return os.read(self._ready, 1) == _READY
        finally:
            loop.remove_reader(self._ready)
            os.close(self._ready)
