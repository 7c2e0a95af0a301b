"""Coarse time: one timer for the whole proxy instead of one for each request.

``now`` is up to one tick old when a deadline is computed from it, so a deadline counts as passed one tick
later (see :meth:`Ticker.passed`): never too early, at most two ticks too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate

from tqserver.host import clock

TICK_SECONDS = 0.5


class Ticker:
    """Calls ``on_tick`` twice a second. ``date`` is the present moment as a Date field's value."""

    def __init__(self, on_tick: Callable[[], None]) -> None:
        self._on_tick = on_tick
        self.now = 0.0
        self.date = b""
        self._read_clock()

    def _read_clock(self) -> None:
        self.now = clock.monotonic()
        self.date = formatdate(clock.wall(), usegmt=True).encode()

    def start(self) -> None:
        """Tick from now on, on the running loop."""
        self._read_clock()
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self.start()
        self._on_tick()

    def passed(self, deadline: float) -> bool:
        """Tell whether a deadline that was computed from ``now`` has certainly passed."""
        return deadline + TICK_SECONDS <= self.now
