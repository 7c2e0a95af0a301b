"""Back-pressure: who reads waits for whom writes.

Each connection stops reading while there is a reason to, and a full write buffer is its opposite's reason. So
a slow reader at one end slows the writer at the other down, and what the proxy holds of a body is bounded: a
write buffer, and one read.
"""

from __future__ import annotations

import asyncio
from typing import cast

HIGH_WATER_BYTES = 64 * 1024

# Reasons why a connection does not read; plain integers, since they are looked at for every request.
OPPOSITE_FULL = 1  # what it reads could not be written on
BACKLOG = 2  # it has read more than can be used yet


class Flow(asyncio.Protocol):
    """A connection that can be made to wait."""

    __slots__ = ("_reasons", "is_full", "transport")
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_full = False
        self._reasons = 0

    def opposite(self) -> Flow | None:
        """Return the connection whose bytes are written to this one."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio)."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not registered as such
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES)

    def pause_writing(self) -> None:
        """The write buffer is above its high mark (asyncio)."""
        self.is_full = True
        opposite = self.opposite()
        if opposite is not None:
            opposite.hold(OPPOSITE_FULL)

    def resume_writing(self) -> None:
        """The write buffer is below its low mark (asyncio)."""
        self.is_full = False
        opposite = self.opposite()
        if opposite is not None:
            opposite.let_go(OPPOSITE_FULL)

    def hold(self, reason: int) -> None:
        """Do not read any more, for this reason."""
        if not self._reasons:
            self.transport.pause_reading()
        self._reasons |= reason

    def let_go(self, reason: int) -> None:
        """This reason is gone; read if it was the last."""
        if self._reasons & reason:
            self._reasons &= ~reason
            if not self._reasons:
                self.transport.resume_reading()

    @property
    def is_held(self) -> bool:
        """Whether it does not read."""
        return self._reasons != 0
