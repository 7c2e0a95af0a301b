"""What every reconciler works with: the parts of the server that a page needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tqserver.build.pipeline import Pipeline
from tqserver.control.agent import NodeAgent
from tqserver.control.collector import Collector
from tqserver.control.journal import Journal
from tqserver.control.pool import Terms
from tqserver.control.publisher import Publisher
from tqserver.control.retirement import Retirement
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config, WorkerSettings
from tqserver.model.pages import Page


@dataclass(slots=True)
class Services:
    """``config`` is replaced whole when the file changes."""

    config: Config
    pipeline: Pipeline
    agent: NodeAgent
    publisher: Publisher
    retirement: Retirement
    journal: Journal
    collector: Collector
    tasks: TaskOwner
    learn: Callable[[tuple[str, ...]], None]  # modules that workers had to import: hold them ready
    watch: Callable[[str, frozenset[str]], bool]  # page, what it reads outside; True: not watched until now

    def settings(self, page: Page) -> WorkerSettings:
        """Return the settings of a page's route."""
        return self.config.workers.for_route(page.route)

    def terms(self, page: Page) -> Terms:
        """Return by what the workers of a page run."""
        config, settings = self.config, self.settings(page)
        return Terms(settings, settings.drain_seconds(config.mode), config.workers.shutdown_grace_period_ms / 1000)

    async def pause(self, milliseconds: int | None) -> None:
        """Wait as the operator has asked for in the configuration; by default not at all."""
        if milliseconds:
            await asyncio.sleep(milliseconds / 1000)
