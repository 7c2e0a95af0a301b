"""A watcher on a directory of a test, and what it told. Most of it is real: the kernel's events, the loop, the disk."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqserver.control.watcher import Pace, Watcher
from tqserver.host import inotify
from tqserver.host.inotify import Event, Inotify
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import HostError

DEADLINE_SECONDS = 10.0
NEVER_SECONDS = 3600.0
DEBOUNCE_SECONDS = 0.02
SELDOM = Pace(audit_seconds=NEVER_SECONDS, poll_seconds=0.01, probe_seconds=NEVER_SECONDS)


class DeafInotify(Inotify):
    """An inotify that loses what a test wants lost, and runs out of watches when a test wants it to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_deaf = False
        self.lost = 0  # the mask of events that never come
        self.overflows = False
        self.full_at: str | None = None  # directories of this name find no watch left
        self.unreadable: str | None = None  # directories of this name may not be read

    def read(self) -> list[Event]:
        events = super().read()
        if self.is_deaf:
            events = []
        if self.overflows:
            self.overflows = False
            events = [Event("", "", inotify.Q_OVERFLOW)]
        return [event for event in events if not event.mask & self.lost]

    def add(self, directory: str, events: int = inotify.CHANGES) -> None:
        if os.path.basename(directory) == self.full_at:
            raise HostError(f"cannot watch {directory}: the limit is reached", remedy="sysctl, raise it")
        if os.path.basename(directory) == self.unreadable:
            raise PermissionError(directory)
        super().add(directory, events)


class RecordedLog:
    """Stands for a module's log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [{"level": level, **fields} for level, name, fields in self.lines if name == event]


class Watching:
    """A watcher of ``root/pages``. Paths are told relative to root; :meth:`told` waits for one and forgets all."""

    def __init__(self, root: Path, pace: Pace, shares: Mapping[int, str]) -> None:
        self.root = root
        self.inotify = DeafInotify()
        self.log = RecordedLog()
        self.failures: list[BaseException] = []
        self.tasks = TaskOwner(lambda _, error: self.failures.append(error))
        self._paths: set[str] = set()
        self._edits = itertools.count()
        self.watcher = Watcher(
            self._heard, os.path.dirname, DEBOUNCE_SECONDS, self.tasks,
            pace=pace, open_inotify=lambda: self.inotify, shares=lambda: shares,
        )  # fmt: skip

    def _heard(self, paths: Iterable[str]) -> None:
        self._paths |= {os.path.relpath(path, self.root) for path in paths}

    def start(self) -> Watching:
        self.watcher.start([self.root / "pages"])
        return self

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    async def told(self, *paths: str) -> set[str]:
        """Wait until all these have been told; return what was, and forget it."""
        await self.until(lambda: self._paths.issuperset(paths), lambda: f"{paths}, but {self._paths}")
        told, self._paths = self._paths, set()
        return told

    async def edited(self, path: str, *, tells: str | None = None) -> None:
        """Edit a file that is watched, and see it told. What was told before is forgotten."""
        self._paths.clear()
        self.write(path, f"edit {next(self._edits)}")
        await self.told(tells or path)

    async def until(self, condition: Callable[[], object], what: Callable[[], str] = lambda: "a condition") -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what()}") from None

    def untold(self) -> set[str]:
        """What was told since it was last forgotten."""
        return set(self._paths)

    async def close(self) -> None:
        self.watcher.close()
        await self.tasks.close()
        assert self.failures == []
