"""What a page does for its clients right now: its state, what is live, what is wrong. Proxies and the log are told."""

from __future__ import annotations

from tqserver.control.pool import Pool
from tqserver.control.rows import as_failure, route_limits
from tqserver.control.services import Services
from tqserver.host.log import get_logger
from tqserver.model.errors import BuildError, TQError
from tqserver.model.lifecycle import PAGE_MOVES, PageState, advance
from tqserver.model.pages import Page
from tqserver.wire.messages import Failure, RouteEntry

log = get_logger("standing")


class Standing:
    """The row of one page. Its name and route never change."""

    def __init__(self, page: Page, services: Services) -> None:
        self.state = PageState.NEW
        self.live: Pool | None = None
        self._page = page
        self._services = services
        self._failure: Failure | None = None

    @property
    def answers(self) -> bool:
        """Whether a revision is live that has not been given up."""
        return self.live is not None and not self.live.gave_up

    def publish(self) -> int:
        """Tell the proxies; return the version of the table that shows it."""
        if self.state is PageState.GONE:
            return self._services.publisher.touch()
        live, settings = self.live, self._services.settings(self._page)
        may_grow = live is not None and len(live.ready) < settings.max_workers
        return self._services.publisher.set_row(
            RouteEntry(
                pattern=self._page.route,
                page=self._page.name,
                revision=live.spec.revision if live is not None else 0,
                workers=live.refs() if live is not None else [],
                failure=self._failure or (live.failure if live is not None else None),
                limits=route_limits(settings, self._services.config.server, may_grow=may_grow),
                public=self._page.public,
            )
        )

    def describe(self, page: Page) -> None:
        """The page is found to be another, and its proxies are told if that concerns them."""
        before, self._page = self._page, page
        if page.public != before.public:
            self.publish()

    # --- what becomes of it -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Something is tried."""
        self._move(PageState.UPDATING if self.answers else PageState.BUILDING)

    def give_in(self) -> None:
        """Nothing is tried any more, and what was did not come to be."""
        if self.state in (PageState.UPDATING, PageState.BUILDING):
            self._move(PageState.STALE if self.answers else PageState.BROKEN)

    def go_live(self, pool: Pool) -> None:
        """A revision serves from now on; :meth:`publish` tells."""
        self.live, self._failure = pool, None
        self._move(PageState.LIVE)

    def restore(self, digest: str) -> None:
        """What is live is what is wanted, again."""
        if self.state is not PageState.LIVE:
            self._failure = None
            self._move(PageState.LIVE)
            log.info("page.restored", page=self._page.name, digest=digest)
            self.publish()

    def is_known(self, error: TQError) -> bool:
        """Tell whether this is what is wrong already."""
        return self._failure is not None and self._failure.message == error.message

    def fail(self, error: TQError) -> None:
        """What is on disk cannot be served; what is live stays live."""
        is_known, self._failure = self.is_known(error), as_failure(error)
        if self.state is PageState.NEW:
            self._move(PageState.BUILDING)
        if self.state is PageState.LIVE:
            self._move(PageState.UPDATING)
        self._move(PageState.STALE if self.answers else PageState.BROKEN)
        self.publish()
        serving = self.live.spec.revision if self.live is not None else "nothing"
        if is_known:
            log.info("page.still_failing", page=self._page.name, error=error.message, serving=serving)
            return
        log.error(
            "build.failed" if isinstance(error, BuildError) else "page.failed",
            page=self._page.name,
            error=error.message,
            where=self._failure.where,
            remedy=error.remedy,
            output=error.output,
            serving=serving,
        )

    def give_up(self) -> None:
        """The workers of what is live keep dying: nothing answers."""
        self._move(PageState.FAILED)

    def depart(self) -> int:
        """Take the page out of the table at once: another may claim its route in the same turn."""
        self._move(PageState.GONE)
        return self._services.publisher.remove_row(self._page.name)

    def _move(self, wanted: PageState) -> None:
        if self.state is not wanted:
            self.state = advance(PAGE_MOVES, self.state, wanted)
