"""The revisions of a page that are remembered, and which of them is gone back to. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from tqserver.model.errors import NotFound
from tqserver.model.pages import Page

KEPT = 10


@dataclass(frozen=True, slots=True)
class Revision:
    """One that went live ``at`` that moment (seconds since the epoch, 0: not known).

    ``digest`` names the artifact; ``content`` is the digest by which its files are known, which is another once its
    workers were seen to read more; ``own`` tells the page's own files alone. ``runtime`` and ``entry`` are how the
    artifact is run, "" as the page is now. ``brings_back`` is the revision that this one repeats, 0 if it was on disk
    itself.
    """

    number: int
    digest: str
    at: float = 0.0
    runtime: str = ""
    entry: str = ""
    brings_back: int = 0
    content: str = ""
    own: str = ""

    @property
    def origin(self) -> int:
        """The number under which its code was first live."""
        return self.brings_back or self.number

    def of(self, page: Page) -> Page:
        """Return the page as this revision of it is run."""
        return dataclasses.replace(page, runtime=self.runtime or page.runtime, entry=self.entry or page.entry)

    def is_same_code(self, other: Revision) -> bool:
        """Tell whether nothing but the number differs, as after a restart or a reload."""
        return self.digest == other.digest or (bool(self.content) and self.content == other.content)


def with_newest(recent: Sequence[Revision], newest: Revision) -> tuple[Revision, ...]:
    """Return the last :data:`KEPT` revisions.

    One that repeats the last takes its place: restarts must not fill them.
    """
    if recent and recent[-1].is_same_code(newest):
        return (*recent[:-1], dataclasses.replace(newest, at=recent[-1].at or newest.at))
    return (*recent, newest)[-KEPT:]


def chosen(recent: Sequence[Revision], live: Revision | None, number: int | None, route: str) -> Revision:
    """Return the revision to go back to; without ``number`` the newest before the live one that is other code.

    Raises :class:`~tqserver.model.errors.NotFound`.
    """
    if not recent:
        raise NotFound(f"no revision of {route} has been live yet", remedy="tqserver wait says what is in its way")
    if number is None:
        return _before(recent, live, route)
    for revision in reversed(recent):
        if number in (revision.number, revision.brings_back):
            return revision
    known = ", ".join(str(revision.number) for revision in recent)
    raise NotFound(f"{route} has no revision {number}", remedy=f"the last {KEPT} are kept, which are now: {known}")


def _before(recent: Sequence[Revision], live: Revision | None, route: str) -> Revision:
    if live is None:
        return recent[-1]
    for revision in reversed(recent):
        if revision.number < live.origin and not revision.is_same_code(live):
            return revision
    raise NotFound(f"{route} has no revision before the one that is live", remedy="tqserver revisions lists them")
