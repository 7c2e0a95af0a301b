"""When to tell of a change: as soon as its writer has finished, and not before.

A write that was closed, or a rename into place, is complete at that moment: it is told after
:data:`SETTLE_SECONDS` without a further one, so that the files of one checkout arrive together. A file that is
being written, or has vanished, is unfinished: it holds back what belongs to the same page until it settles or
``debounce_seconds`` pass (an editor that saves by two renames, a writer that never closes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set

SETTLE_SECONDS = 0.002
_TIMER_SLACK_SECONDS = 1e-4  # a timer may fire this much early


class Settling:
    """Collects paths that change; calls ``on_change`` with those that rest.

    ``owner_of`` groups paths: what is unfinished holds back only what has the same owner.
    """

    def __init__(
        self,
        on_change: Callable[[frozenset[str]], None],
        owner_of: Callable[[str], str],
        debounce_seconds: float,
    ) -> None:
        self._on_change = on_change
        self._owner_of = owner_of
        self.debounce_seconds = debounce_seconds
        self._complete: dict[str, float] = {}  # path -> when it was last completed (loop time)
        self._unfinished: dict[str, float] = {}  # path -> when it was last touched
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = asyncio.Event()

    def completed(self, path: str) -> None:
        """What is at this path is whole."""
        self._unfinished.pop(path, None)
        self._complete[path] = asyncio.get_running_loop().time()

    def unfinished(self, path: str) -> None:
        """What is at this path has changed and may go on to."""
        self._complete.pop(path, None)
        self._unfinished[path] = asyncio.get_running_loop().time()

    def found(self, path: str) -> None:
        """What is at this path differs; if somebody is known to write there, nothing new is learned."""
        if path not in self._unfinished:
            self.completed(path)

    def schedule(self) -> None:
        """Set the time at which to tell next; call it after a batch of changes."""
        self.close()
        now = asyncio.get_running_loop().time()
        if self._complete:  # a burst is waited out, but never longer than the debounce
            completed = self._complete.values()
            due = min(max(completed) + SETTLE_SECONDS, min(completed) + self.debounce_seconds)
        elif self._unfinished:
            due = min(self._unfinished.values()) + self.debounce_seconds
        else:
            return
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        rests = now - self.debounce_seconds + _TIMER_SLACK_SECONDS
        settled = {path for path, at in self._unfinished.items() if at <= rests}
        for path in settled:
            del self._unfinished[path]
        held = {self._owner_of(path) for path in self._unfinished}
        ready = {path for path in self._complete if self._owner_of(path) not in held}
        for path in ready:
            del self._complete[path]
        if self._unfinished:
            wake = min(self._unfinished.values()) + self.debounce_seconds - now
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake), self._flush)
        if settled or ready:
            self._on_change(frozenset(settled | ready))
        self._flushed.set()
        self._flushed = asyncio.Event()

    async def quiet(self, owners: Set[str] | None) -> None:
        """Wait until nothing that belongs to these owners, or to nobody, is held back; None is everything."""
        while any(
            owners is None or self._owner_of(path) in {"", *owners} for path in (*self._complete, *self._unfinished)
        ):
            await self._flushed.wait()

    def close(self) -> None:
        """Tell of nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
