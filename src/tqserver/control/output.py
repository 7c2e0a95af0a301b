"""What workers print, for those who follow it (``tqserver logs -f``).

The files are the record; this is only what comes from now on. A follower that does not keep up loses lines, and is
told how many: a page that prints without end must not fill control's memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

LINES_QUEUED = 10_000  # for a follower that is slower than the pages


Taker = Callable[[list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page's output; ``lost`` lines before it were dropped."""

    page: str
    text: str
    lost: int = 0


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody who reads along. ``pages`` None: all of them."""

    pages: frozenset[str] | None
    lost: int = 0
    queued: deque[Line] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, page: str, text: str) -> None:
        """Queue a line, or count it as lost."""
        if len(self.queued) >= LINES_QUEUED:
            self.lost += 1
            return
        self.queued.append(Line(page, text, self.lost))
        self.lost = 0
        self.arrived.set()

    async def lines(self) -> AsyncIterator[Line]:
        """Yield lines as they come, for ever."""
        while True:
            while self.queued:
                yield self.queued.popleft()
            self.arrived.clear()
            await self.arrived.wait()


def both(first: Taker, second: Taker) -> Taker:
    """Return what hands lines to one and then to the other."""

    def take(lines: list[bytes]) -> None:
        first(lines)
        second(lines)

    return take


class OutputHub:
    """Hands lines of output to whoever follows their page."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()

    def of(self, page: str) -> Taker:
        """Return what the workers of a page hand their lines to."""

        def take(lines: list[bytes]) -> None:
            for follower in self._followers:
                if follower.pages is None or page in follower.pages:
                    for line in lines:
                        follower.take(page, line.decode(errors="replace"))

        return take

    def follow(self, pages: frozenset[str] | None) -> Follower:
        """Follow these pages from now on."""
        follower = Follower(pages)
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Follow no more."""
        self._followers.discard(follower)
