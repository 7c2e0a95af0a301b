"""One running worker, looked at: does it answer, and how much memory has it?

Its process being there says nothing: the probe asks what clients ask (pitfall 20). Memory is its proportional
share (PSS) with that of the processes it started, so pages shared with its zygote are not counted for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tqserver.control.health import nobody_listens, probe
from tqserver.control.worker_process import WorkerProcess
from tqserver.host.log import get_logger
from tqserver.host.memory import group_memory_bytes
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import WorkerSettings
from tqserver.model.lifecycle import Cause, WorkerState

MISSES = 3  # probes in a row without an answer, after which a worker is replaced
LONGEST_PROBE_SECONDS = 5.0
DOUBT_SECONDS = 1.0  # between two looks at a worker that a proxy complains of
MEMORY_INTERVAL_SECONDS = 1.0
SOFT_LIMIT = 0.9  # of memory_limit: from here a worker is replaced in order
log = get_logger("monitor")


class Monitor:
    """Looks at a worker until it is no longer ready. ``replace`` gets it, and why, if it must go."""

    def __init__(
        self,
        worker: WorkerProcess,
        settings: Callable[[], WorkerSettings],
        replace: Callable[[WorkerProcess, Cause, str], None],
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._replace = replace
        self._misses = 0
        self._limit_bytes = settings().memory_limit  # with which it was started, if it has a cgroup
        self._health: asyncio.Task[None] | None = None
        self._memory: asyncio.Task[None] | None = None
        self._doubt: asyncio.Task[None] | None = None

    def look(self, tasks: TaskOwner) -> None:
        """Begin what the settings ask for and does not run; call it again when they changed.

        Each ends by itself, when the worker does or nothing asks for it any more.
        """
        settings, name = self._settings(), f"worker-{self._worker.number}"
        if (cgroup := self._worker.cgroup) is not None and settings.memory_limit != self._limit_bytes:
            cgroup.limit_memory(settings.memory_limit)
            self._limit_bytes = settings.memory_limit
        if settings.health_interval_seconds and (self._health is None or self._health.done()):
            self._health = tasks.start(self._watch_health(), name=f"{name}.health")
        if settings.memory_limit and (self._memory is None or self._memory.done()):
            self._memory = tasks.start(self._watch_memory(), name=f"{name}.memory")

    def look_at_once(self, tasks: TaskOwner) -> None:
        """Somebody doubts that it is well. What doubts come within a second are looked into together."""
        if self._doubt is None or self._doubt.done():
            self._doubt = tasks.start(self._look_into_doubt(), name=f"worker-{self._worker.number}.doubt")

    async def _look_into_doubt(self) -> None:
        """That nobody listens, seen twice, is a verdict: what has closed its socket does not open it again."""
        endpoint = self._worker.endpoint
        if not await nobody_listens(endpoint):
            await self._ask()
            await self._still_ready_after(DOUBT_SECONDS)
        elif await self._still_ready_after(DOUBT_SECONDS) and await nobody_listens(endpoint):
            self._replace(self._worker, Cause.HEALTH, "nobody listens at its address any more")

    async def _still_ready_after(self, seconds: float) -> bool:
        return not await self._worker.wait_exit(seconds) and self._worker.state is WorkerState.READY

    async def _watch_health(self) -> None:
        while (seconds := self._settings().health_interval_seconds) and await self._still_ready_after(seconds):
            await self._ask()

    async def _ask(self) -> None:
        settings = self._settings()
        limit = min(LONGEST_PROBE_SECONDS, settings.health_interval_seconds or LONGEST_PROBE_SECONDS)
        wrong = await probe(self._worker.endpoint, settings.health_path, limit)
        if not wrong:
            self._misses = 0
            return
        self._misses += 1
        log.warning(
            "worker.unwell",
            page=self._worker.order.spec.page,
            worker=self._worker.number,
            pid=self._worker.pid,
            reason=wrong,
            misses=self._misses,
        )
        if self._misses >= MISSES:
            self._replace(self._worker, Cause.HEALTH, f"{self._misses} health checks in a row failed: {wrong}")

    async def _watch_memory(self) -> None:
        while (limit := self._settings().memory_limit) and await self._still_ready_after(MEMORY_INTERVAL_SECONDS):
            used = group_memory_bytes(self._worker.pid)
            if used > limit and self._worker.cgroup is None:  # else the kernel does, by its own count
                self._worker.kill(Cause.MEMORY, f"memory limit: {_mebibytes(used)} of {_mebibytes(limit)}")
            elif used > limit * SOFT_LIMIT:
                reason = f"it uses {_mebibytes(used)} of {_mebibytes(limit)} (memory_limit)"
                self._replace(self._worker, Cause.MEMORY, reason)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
