"""The revisions of a page that are out of the table: drained, then stopped, while newer ones serve."""

from __future__ import annotations

import asyncio

from tqserver.control.pool import Pool
from tqserver.control.services import Services
from tqserver.host.log import get_logger
from tqserver.model.pages import Page

log = get_logger("outgoing")


class Outgoing:
    """Retires revisions of one page, each in its own time."""

    def __init__(self, page: Page, services: Services) -> None:
        self._page = page  # as far as its settings go, which are those of its route
        self._services = services
        self._retiring: set[asyncio.Task[None]] = set()

    def retire(self, old: Pool, version: int) -> None:
        """Drain and stop a revision, which the snapshot ``version`` is the first not to name."""
        task = self._services.tasks.start(self._drain_and_stop(old, version), name=f"retire.{self._page.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drain_and_stop(self, old: Pool, version: int) -> None:
        services = self._services
        await services.publisher.acknowledged(version)
        await services.pause(services.config.workers.restart_delay_ms)
        old.retire()
        terms = services.terms(self._page)
        await services.retirement.retire(old.spec, old.workers, version, terms.drain_seconds, terms.grace_seconds)
        await old.stop()
        log.info("revision.retired", page=self._page.name, revision=old.spec.revision)

    async def gone(self) -> None:
        """Return when all of them have ended."""
        if self._retiring:
            await asyncio.wait(set(self._retiring))
