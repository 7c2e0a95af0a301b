"""The end of workers that are out of the table: drained or cut at a deadline, then stopped.

Used for a whole revision that was replaced, and for one worker of a revision that goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tqserver.control.agent import NodeAgent, WorkerSpec
from tqserver.control.publisher import Publisher
from tqserver.control.worker_process import WorkerProcess
from tqserver.host.log import get_logger

log = get_logger("retirement")


class Retirement:
    """Takes workers from their last snapshot to their exit."""

    def __init__(self, publisher: Publisher, agent: NodeAgent) -> None:
        self._publisher = publisher
        self._agent = agent

    async def drain(self, spec: WorkerSpec, workers: Sequence[WorkerProcess], version: int, seconds: float) -> None:
        """Return when no proxy has a request in flight for them; what takes longer than ``seconds`` is cut.

        ``version`` is the first snapshot that does not name them.
        """
        try:
            async with asyncio.timeout(seconds):
                for worker in workers:
                    await self._publisher.drained(version, worker.number)
        except TimeoutError:
            log.warning(
                "revision.cut",
                page=spec.page.name,
                revision=spec.revision,
                after_seconds=seconds,
                remedy="requests were still in flight; raise drain_timeout_seconds if they must finish",
            )
            for worker in workers:
                self._publisher.cut(worker.number)

    async def retire(
        self,
        spec: WorkerSpec,
        workers: Sequence[WorkerProcess],
        version: int,
        drain_seconds: float,
        grace_seconds: float,
    ) -> None:
        """Drain them, end them, and forget them."""
        await self.drain(spec, workers, version, drain_seconds)
        await asyncio.gather(*(self._agent.stop(worker, grace_seconds) for worker in workers))
        for worker in workers:
            self._publisher.forget(worker.number)
