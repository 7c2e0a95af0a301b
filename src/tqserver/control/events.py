"""What happened: the last events of the server's log, numbered, and what they add up to for each page.

The log is the one record; this is a tap on it. Numbers begin at 1 with each server and have no gaps, so a reader
who lost the connection goes on where it was, and knows if it came too late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = 1000


@dataclass(slots=True)
class PageHistory:
    """What the events of one page add up to."""

    restarts: int = 0
    last_exit: str = ""
    last_reload_seconds: float | None = None
    failed_at: str = ""


class Events:
    """The last :data:`KEPT` events as JSON lines, each with its number as first member."""

    def __init__(self) -> None:
        self.last = 0
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
        page = event.get("page")
        if not isinstance(page, str):
            return
        history = self._pages.setdefault(page, PageHistory())
        match event["event"]:
            case "revision.live":
                history.last_reload_seconds = event["seconds"]
            case "worker.exited" if event["level"] == "error":  # the others were told to
                history.restarts += 1
                history.last_exit = event["reason"]
                history.failed_at = event["timestamp"]
            case "worker.not_replaced":
                history.last_exit = event["error"]
            case "page.failed" | "build.failed" | "page.gave_up" | "route.conflict":
                history.failed_at = event["timestamp"]
            case "page.gone":
                del self._pages[page]
