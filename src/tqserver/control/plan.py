"""What to do, decided from values alone.

Found against known, changed paths against pages, deaths against time: each a function of its arguments.
"""

from __future__ import annotations

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
STEADY_SECONDS = 10.0  # a worker that lived this long since it was ready was not part of a crash loop


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


def pages_concerned(path: str, pages: Iterable[Page], read_by: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the names of the pages that a change of ``path`` may concern.

    The page whose directory is the deepest around it, and every page that has read it: ``read_by`` maps a
    file outside the pages to the names of the pages that read it. A directory stands for all below it.
    """
    names = set(read_by.get(path, ()))
    below = path + "/"
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

    Deaths count as a loop while each worker lived less than :data:`STEADY_SECONDS` since it was ready.
    """

    deaths: int = field(default=0)

    def died(self, lived_seconds: float) -> float:
        """Record a death; return the seconds to wait before the replacement starts."""
        self.deaths = 1 if lived_seconds >= STEADY_SECONDS else self.deaths + 1
        return backoff_seconds(self.deaths)

    def reset(self) -> None:
        """Forget: the page's files changed, or somebody asked for a restart."""
        self.deaths = 0


def backoff_seconds(deaths: int) -> float:
    """Return the wait after this many deaths in a row: 0, 0.1, 0.2, 0.4 ... 30."""
    if deaths <= 1:
        return 0.0
    return min(BACKOFF_FIRST_SECONDS * 2.0 ** (min(deaths, 32) - 2), BACKOFF_LONGEST_SECONDS)


def pooled_idle_seconds(settings: WorkerSettings) -> float:
    """Return how long a proxy keeps an idle connection to a page's workers; 0: it keeps none.

    Always less than the worker does, which would otherwise close it just as it is used again (pitfall 4). Go's
    net/http, and so many a worker, takes its read timeout for the idle timeout where that is 0.
    """
    closed_after = settings.idle_timeout_seconds or settings.read_timeout_seconds
    if not closed_after:
        return LONGEST_POOLED_SECONDS
    return max(0.0, min(LONGEST_POOLED_SECONDS, closed_after - POOL_MARGIN_SECONDS))
