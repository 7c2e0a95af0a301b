"""What to do, decided from values alone.

Found against known, changed paths against pages, deaths against time: each a function of its arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tqserver.model.config import WorkerSettings
from tqserver.model.pages import Page

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_LONGEST_SECONDS = 30.0
ENTRY_NAMES = frozenset(
    {"main.py", "main.js", "main.mjs", "main.ts", "package.json", "Cargo.toml", "page.yaml", "index.html"}
)
LONGEST_POOLED_SECONDS = 60.0
POOL_MARGIN_SECONDS = 2.0  # the proxy looks at its pools twice a second, and so up to a second late
# A worker that lived this long since it was ready was not part of a crash loop. A loop that is no faster costs little
# beside what it serves, and whoever is killed from outside, again and again, is wanted back each time.
STEADY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What discovery changes. ``altered`` pages kept their name; runtime, entry or nesting differ."""

    appeared: tuple[Page, ...]
    altered: tuple[Page, ...]
    vanished: tuple[str, ...]


def difference(known: Mapping[str, Page], found: Mapping[str, Page]) -> Difference:
    """Compare the pages that are known with those just found, by name."""
    return Difference(
        appeared=tuple(page for name, page in found.items() if name not in known),
        altered=tuple(page for name, page in found.items() if name in known and known[name] != page),
        vanished=tuple(name for name in known if name not in found),
    )


@dataclass(slots=True)
class Readers:
    """Which pages read what outside of their own directories: files, and directories in which each file counts."""

    by_path: dict[str, set[str]] = field(default_factory=dict)
    _of_page: dict[str, frozenset[str]] = field(default_factory=dict)

    def replace(self, page: str, paths: frozenset[str]) -> None:
        """Know from now on that the page reads these paths, and no others."""
        before = self._of_page.get(page, frozenset())
        for path in paths - before:
            self.by_path.setdefault(path, set()).add(page)
        for path in before - paths:
            self.by_path[path].discard(page)
            if not self.by_path[path]:
                del self.by_path[path]
        self._of_page[page] = paths


def pages_concerned(path: str, pages: Iterable[Page], read_by: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the names of the pages that a change of ``path`` may concern.

    The page whose directory is the deepest around it, and every page that reads it: ``read_by`` maps files and
    directories outside the page, as :class:`Readers` has them. A change of a directory stands for all below it.
    """
    names = {*read_by.get(path, ()), *read_by.get(path.rpartition("/")[0], ())}
    below = path + "/"
    for read, readers in read_by.items():
        if read.startswith(below):
            names.update(readers)
    deepest: Page | None = None
    for page in pages:
        if path == page.directory or path.startswith(page.directory + "/"):
            if deepest is None or len(page.directory) > len(deepest.directory):
                deepest = page
        elif page.directory.startswith(below):
            names.add(page.name)  # a directory above was renamed or its rights changed
    if deepest is not None:
        names.add(deepest.name)
    return frozenset(names)


def needs_discovery(path: str, pages: Iterable[Page], *, exists: bool) -> bool:
    """Tell whether a change of ``path`` can make, end or alter a page, so that the tree is scanned again.

    ``exists``: a regular file is there now. An edit of a file that is no entry file changes no page's being, and
    neither does one of the entry file of a page that is known.
    """
    if not exists:
        return True
    directory, _, name = path.rpartition("/")
    known = any(page.directory == directory and page.entry == name for page in pages)
    return not known and (name in ENTRY_NAMES or name.endswith(".go"))


@dataclass(slots=True)
class RestartPolicy:
    """How long to wait before a worker that died is replaced: at once, then 0.1 s doubling to 30 s.

    Deaths count as a loop while each worker lived less than :data:`STEADY_SECONDS` since it was ready. The
    policy is spent after ``most`` deaths within ``period_seconds``; 0 is never.
    """

    most: int = 0
    period_seconds: float = 0.0
    deaths: int = 0
    recent: list[float] = field(default_factory=list)  # times of death within the period, in order

    def died(self, lived_seconds: float, now: float) -> float:
        """Record a death; return the seconds to wait before the replacement starts."""
        self.deaths = 1 if lived_seconds >= STEADY_SECONDS else self.deaths + 1
        self.recent = [time for time in self.recent if now - time < self.period_seconds]
        self.recent.append(now)
        return backoff_seconds(self.deaths)

    @property
    def is_spent(self) -> bool:
        """Whether so many have died that no more are started."""
        return 0 < self.most <= len(self.recent)


def backoff_seconds(deaths: int) -> float:
    """Return the wait after this many deaths in a row: 0, 0.1, 0.2, 0.4 ... 30."""
    if deaths <= 1:
        return 0.0
    return min(BACKOFF_FIRST_SECONDS * 2.0 ** (min(deaths, 32) - 2), BACKOFF_LONGEST_SECONDS)


@dataclass(slots=True)
class RetryPolicy:
    """When content that never started is tried again: after 1, 2, 4 ... 30 s; never more than ``most`` times.

    The page need not be at fault: what it needs may not be up yet.
    """

    digest: str = ""
    tries: int = 0

    def failed(self, digest: str, most: int) -> float | None:
        """Record that this content did not start; return the seconds to wait, None if it is not tried again.

        ``most`` counts the first time as well; 0 is no limit.
        """
        if digest != self.digest:
            self.digest, self.tries = digest, 0
        self.tries += 1
        if 0 < most <= self.tries:
            return None
        return min(2.0 ** (min(self.tries, 32) - 1), BACKOFF_LONGEST_SECONDS)


# --- how many workers -------------------------------------------------------------------------------------


def needed_workers(in_flight: int, requests: int, concurrency: int) -> int:
    """Return how many workers a load needs: ``in_flight`` at a moment, ``requests`` since the last look."""
    if concurrency:
        return max(-(-in_flight // concurrency), 1 if requests else 0)
    return 1 if in_flight or requests else 0


class Idleness:
    """Since when fewer workers would have been enough. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._needed_at: list[float] = []  # [n]: when more than n workers were last needed

    def observe(self, needed: int, running: int, now: float) -> None:
        """Take note of what is needed now. A worker that is new counts as needed when it came."""
        self._needed_at += [now] * (running - len(self._needed_at))
        del self._needed_at[running:]
        for number in range(min(needed, running)):
            self._needed_at[number] = now

    def surplus(self, least: int, idle_seconds: float, now: float) -> int:
        """Return how many of the workers that ran at the last look were not needed for so long."""
        return sum(now - time >= idle_seconds for time in self._needed_at[least:])

    def next_due(self, least: int, idle_seconds: float) -> float | None:
        """Return the time at which one may become surplus, None if none can."""
        return min(self._needed_at[least:]) + idle_seconds if len(self._needed_at) > least else None


def jittered(limit: int, number: int) -> int:
    """Return ``limit`` +-10 %, another for each ``number``, so that workers do not all recycle at once.

    Multiples of the golden ratio spread evenly, whatever how many there are (Knuth, TAOCP 3, 6.4).
    """
    return round(limit * (0.9 + 0.2 * (number * 0.6180339887 % 1.0)))


# --- a changed configuration ------------------------------------------------------------------------------

# What control and the proxies act on; a running worker need not know of it.
APPLIED_WHILE_RUNNING = frozenset(
    {
        "max_requests",
        "min_workers",
        "max_workers",
        "concurrency",
        "queue",
        "idle_stop_seconds",
        "memory_limit",
        "start_timeout_seconds",
        "drain_timeout_seconds",
        "health_path",
        "health_interval_seconds",
        "max_restarts",
        "restart_period_seconds",
    }
)


def needs_new_workers(old: WorkerSettings, new: WorkerSettings) -> bool:
    """Tell whether a change of settings is one that a worker gets at its start."""
    return any(
        getattr(old, member.name) != getattr(new, member.name)
        for member in dataclasses.fields(WorkerSettings)
        if member.name not in APPLIED_WHILE_RUNNING
    )


def pooled_idle_seconds(settings: WorkerSettings) -> float:
    """Return how long a proxy keeps an idle connection to a page's workers; 0: it keeps none.

    Always less than the worker does, which would otherwise close it just as it is used again (pitfall 4). Go's
    net/http, and so many a worker, takes its read timeout for the idle timeout where that is 0.
    """
    closed_after = settings.idle_timeout_seconds or settings.read_timeout_seconds
    if not closed_after:
        return LONGEST_POOLED_SECONDS
    return max(0.0, min(LONGEST_POOLED_SECONDS, closed_after - POOL_MARGIN_SECONDS))
