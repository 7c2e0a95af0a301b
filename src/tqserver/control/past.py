"""What a page was: the revisions that were live, the one that serves in place of its files, what workers loaded."""

from __future__ import annotations

from collections.abc import Callable

from tqserver.control.goal import Goal
from tqserver.control.pool import Pool
from tqserver.control.revisions import Revision
from tqserver.control.services import Services
from tqserver.host import clock
from tqserver.host.log import get_logger

log = get_logger("past")


class Past:
    """The journal's memory of one page, as its reconciler asks and tells it."""

    def __init__(self, page: str, services: Services) -> None:
        self._page = page
        self._services = services
        self._memory = services.journal.of(page)

    @property
    def modules(self) -> tuple[str, ...]:
        """What its last worker had imported."""
        return self._memory.modules

    def learn(self, modules: tuple[str, ...]) -> None:
        """A worker of what is live has imported these."""
        if set(modules) != set(self._memory.modules):
            self._memory.modules = modules
            self._services.journal.changed()
        self._services.learn(modules)

    def knows(self, own_digest: Callable[[], str]) -> bool:
        """Tell whether these files of the page were live before, or none of it was."""
        recent = self._memory.recent
        return not recent or own_digest() in {revision.own for revision in recent}

    # --- live ---------------------------------------------------------------------------------------------

    def went_live(self, pool: Pool, goal: Goal, content: str, own: str) -> None:
        """``content`` tells its files, ``own`` those of the page that are on disk, which it may stand in for."""
        if goal.asked:
            self._memory.set_aside = own
        elif goal.revision is None:
            self._memory.set_aside = ""
        spec = pool.spec
        revision = Revision(
            spec.revision,
            spec.digest,
            clock.wall(),
            spec.page.runtime,
            spec.page.entry,
            goal.brings_back,
            content,
            goal.revision.own if goal.revision is not None else own,
        )
        self._services.journal.went_live(self._page, revision)

    def renamed(self, before: str, after: str) -> None:
        """The files that were known by one digest are known by another."""
        self._services.journal.renamed(self._page, before, after)

    # --- gone back to -------------------------------------------------------------------------------------

    def in_place_of(self, own_digest: Callable[[], str], *, is_live: bool) -> Revision | None:
        """Return what a rollback put in place of these files; it holds until they change, across restarts too."""
        if not self._memory.set_aside or not self._memory.recent or self._memory.set_aside != own_digest():
            return None
        last = self._memory.recent[-1]
        if not is_live and not self._services.agent.has(last.digest):
            log.warning("rollback.lost", page=self._page, revision=last.number, remedy="what is on disk is served")
            self.end_rollback()
            return None
        return last

    def end_rollback(self) -> None:
        """What is on disk counts again."""
        if self._memory.set_aside:
            self._memory.set_aside = ""
            self._services.journal.changed()

    def last_good(self, failed: Goal) -> Revision | None:
        """Return what was live last and can be again, if that is not what has failed."""
        for last in self._memory.recent[-1:]:
            if failed.revision is None and (not failed.digest or failed.digest not in (last.content, last.digest)):
                return last if self._services.agent.has(last.digest) else None
        return None
