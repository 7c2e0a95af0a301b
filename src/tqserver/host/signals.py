"""Signals of a program's main loop, as calls on the event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping


class SignalHandlers:
    """Handlers that are in force between ``install`` and ``remove``."""

    def __init__(self, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._handlers = handlers

    def install(self) -> None:
        """Call each handler on the running loop from now on."""
        loop = asyncio.get_running_loop()
        for number, handler in self._handlers.items():
            loop.add_signal_handler(number, handler)

    def remove(self) -> None:
        """Restore the defaults."""
        loop = asyncio.get_running_loop()
        for number in self._handlers:
            loop.remove_signal_handler(number)
