"""Back-pressure: whoever cannot write stops whoever is read for it."""

from __future__ import annotations

import asyncio

HIGH_WATER_BYTES = 65536


def limit(transport: asyncio.WriteTransport) -> None:
    """Bound what waits to be written: above it the protocol's ``pause_writing`` is called."""
    transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)


class Valve:
    """Reading of one transport, paused for any of several reasons."""

    __slots__ = ("_reasons", "_transport")

    def __init__(self, transport: asyncio.ReadTransport) -> None:
        self._transport = transport
        self._reasons: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether the transport is being read."""
        return not self._reasons

    def close(self, reason: str) -> None:
        """Stop reading for this reason."""
        if not self._reasons and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons.add(reason)

    def open(self, reason: str) -> None:
        """This reason is gone; read if it was the last."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons and not self._transport.is_closing():
                self._transport.resume_reading()
