"""What happened: the last events of the server's log, numbered, and what they add up to for each page.

The log is the one record; this is a tap on it. Numbers begin at 1 with each server and have no gaps, so a reader
who lost the connection goes on where it was, and knows if it came too late.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tqserver.model.latency import BOUNDS
from tqserver.model.status import FailureStatus

KEPT = 1000
RELOAD_BOUNDS = BOUNDS[4:]  # seconds; nothing that starts a process takes less than the first


@dataclass(slots=True)
class PageHistory:
    """What the events of one page add up to.

    ``replaced`` are workers by the :class:`~tqserver.model.lifecycle.Cause`, ``reloads`` attempts by what became of
    them ("live", "failed"), ``builds`` by whether there was an artifact already ("built", "reused").
    ``reload_durations`` are of those that went live, by bucket of :data:`RELOAD_BOUNDS`.
    """

    restarts: int = 0
    last_exit: str = ""
    last_reload_seconds: float | None = None
    failed_at: str = ""
    replaced: Counter[str] = field(default_factory=Counter)
    reloads: Counter[str] = field(default_factory=Counter)
    builds: Counter[str] = field(default_factory=Counter)
    reload_durations: list[int] = field(default_factory=lambda: [0] * (len(RELOAD_BOUNDS) + 1))
    reload_seconds: float = 0.0

    def copy(self) -> PageHistory:
        """Return these numbers as they are now."""
        return replace(
            self,
            replaced=Counter(self.replaced),
            reloads=Counter(self.reloads),
            builds=Counter(self.builds),
            reload_durations=list(self.reload_durations),
        )

    def went_live(self, seconds: float) -> None:
        """A revision answers in every proxy, so long after its files were read."""
        self.last_reload_seconds = seconds
        self.reloads["live"] += 1
        self.reload_durations[bisect_left(RELOAD_BOUNDS, seconds)] += 1
        self.reload_seconds += seconds


class Events:
    """The last :data:`KEPT` events as JSON lines, each with its number as first member.

    ``proxy_deaths`` are proxies that ended and were not told to; ``problems`` are those of the
    whole server that are not mended yet, by what they are of: "config" (what is on disk is not what runs), "pages".
    """

    def __init__(self) -> None:
        self.last = 0
        self.proxy_deaths = 0
        self.problems: dict[str, FailureStatus] = {}
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._arrived = asyncio.Event()
        self._pages: dict[str, PageHistory] = {}

    def take(self, event: Mapping[str, Any], line: str) -> None:
        """Take an event from the log."""
        self.last += 1
        self._lines.append(f'{{"number": {self.last}, {line.removeprefix("{")}')
        self._remember(event)
        self._arrived.set()
        self._arrived = asyncio.Event()

    def since(self, number: int) -> list[str]:
        """Return the events after this number; the first says so if older ones are gone."""
        first = self.last - len(self._lines) + 1
        lost = first - number - 1
        if lost > 0:
            note = f'{{"number": {first - 1}, "event": "events.lost", "level": "warning", "count": {lost}}}\n'
            return [note, *self._lines]
        return list(self._lines)[number - first + 1 :] if number < self.last else []

    async def follow(self, number: int) -> AsyncIterator[str]:
        """Yield the events after this number, and those to come, for ever."""
        while True:
            arrived, lines, number = self._arrived, self.since(number), self.last
            for line in lines:
                yield line
            await arrived.wait()  # at once if something came while those were sent

    def of_page(self, page: str) -> PageHistory:
        """Return what is known of a page from its events."""
        return self._pages.get(page) or PageHistory()

    def _remember(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "proxy.exited":
                self.proxy_deaths += 1
            case "config.invalid" | "pages.missing":
                problem = FailureStatus(event["error"], remedy=event["remedy"], at=event["timestamp"])
                self.problems[event["event"].partition(".")[0]] = problem
            case "config.applied" | "config.unchanged":
                self.problems.pop("config", None)
            case "pages.restored":
                self.problems.pop("pages", None)
        if isinstance(page := event.get("page"), str):
            self._remember_of(page, event)

    def _remember_of(self, page: str, event: Mapping[str, Any]) -> None:
        history = self._pages.setdefault(page, PageHistory())
        match event["event"]:
            case "revision.live":
                history.went_live(event["seconds"])
            case "build.done":
                history.builds["reused" if event["reused"] else "built"] += 1
            case "worker.recycled":
                history.replaced[event["cause"]] += 1
            case "worker.exited" if event["level"] == "error":  # the others were told to
                history.replaced[event["cause"]] += 1
                history.restarts += 1
                history.last_exit = event["reason"]
                history.failed_at = event["timestamp"]
            case "worker.not_replaced":
                history.last_exit = event["error"]
            case "page.still_failing":
                history.reloads["failed"] += 1
            case "page.failed" | "build.failed":
                history.reloads["failed"] += 1
                history.failed_at = event["timestamp"]
            case "page.gave_up" | "route.conflict":
                history.failed_at = event["timestamp"]
            case "page.gone":
                del self._pages[page]
