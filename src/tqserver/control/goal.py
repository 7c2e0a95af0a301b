"""What a page is to serve: what is on disk, or in its place a revision of before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Source
from tqserver.control.revisions import Revision
from tqserver.model.errors import HostError, PageError, TQError

Key = tuple[str, int]  # the digest of what is on disk, and the revision that serves in its place, 0: itself
NOTHING: Key = ("", 0)
Failed = TQError | Unsettled | None


@dataclass(frozen=True, slots=True)
class Goal:
    """``source`` is what is on disk, None if that is no page.

    ``revision`` serves in its place: because a rollback ``brings_back`` the one of that number, or as a ``stopgap``
    while what is on disk cannot be served.
    """

    source: Source | None
    revision: Revision | None = None
    brings_back: int = 0
    asked: bool = False
    stopgap: bool = False

    @property
    def digest(self) -> str:
        """What is on disk."""
        return self.source.digest if self.source is not None else ""

    @property
    def artifact(self) -> str:
        """What its workers run from."""
        return self.revision.digest if self.revision is not None else self.digest

    @property
    def key(self) -> Key:
        """What tells it from any other."""
        return self.digest, self.brings_back


@dataclass(slots=True)
class Ask:
    """Somebody wants a revision back, and waits for the answer."""

    revision: Revision
    answer: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fulfil(self, error: Failed) -> None:
        """Say what became of it."""
        number = self.revision.number
        if self.answer.done():  # nobody waits any more
            return
        if error is None:
            self.answer.set_result(None)
        elif isinstance(error, HostError):
            self.answer.set_exception(error)
        elif isinstance(error, Unsettled):
            self.answer.set_exception(
                PageError(
                    "its files changed meanwhile, and the newest counts", remedy=f"ask for revision {number} again"
                )
            )
        else:
            self.answer.set_exception(
                PageError(
                    f"revision {number} cannot be brought back, so what is live stays: {error.message}",
                    remedy=error.remedy,
                    location=error.location,
                    output=error.output,
                )
            )
