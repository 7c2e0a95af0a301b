"""The workers of one revision, kept at their number.

A worker that dies is taken out of the table at once and replaced: immediately the first time, then with a backoff
that grows while replacements keep dying. The pool tells its owner whenever its ready workers change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tqserver.control.agent import NodeAgent, WorkerEvents, WorkerSpec
from tqserver.control.plan import RestartPolicy
from tqserver.control.worker_process import WorkerProcess
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import PageError, StartError, TQError
from tqserver.model.lifecycle import WorkerState
from tqserver.wire.messages import Failure, WorkerRef

LOOP_DEATHS = 5  # from then on clients are told, instead of kept waiting
log = get_logger("pool")


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Whom a pool tells: that its ready workers changed, and which project files they read."""

    changed: Callable[[], object]
    files: Callable[[list[str]], None]


class Pool:
    """The workers of one revision."""

    def __init__(
        self, spec: WorkerSpec, agent: NodeAgent, grace_seconds: float, tasks: TaskOwner, events: PoolEvents
    ) -> None:
        self.spec = spec
        self.failure: Failure | None = None
        self._agent = agent
        self._grace_seconds = grace_seconds
        self._tasks = tasks
        self._events = events
        self._policy = RestartPolicy()
        self._workers: list[WorkerProcess] = []
        self._retired = False
        self._worker_events = WorkerEvents(self._started, self._exited, lambda _, files: events.files(files))

    @property
    def workers(self) -> list[WorkerProcess]:
        """The workers that were seen ready and have not exited."""
        return list(self._workers)

    def refs(self) -> list[WorkerRef]:
        """Return the ready workers for the routing table."""
        return [WorkerRef(w.number, w.endpoint) for w in self._workers if w.state is WorkerState.READY]

    async def start(self, count: int) -> None:
        """Start ``count`` workers; all become ready or none stays. Raises :class:`StartError`."""
        starts = [
            self._tasks.start(self._start_one_quietly(), name=f"start.{self.spec.page.name}") for _ in range(count)
        ]
        try:
            results = [await start for start in starts]
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)
            await self.stop()
            raise
        errors = [error for error in results if error is not None]
        if errors:
            await self.stop()
            raise errors[0]

    async def _start_one_quietly(self) -> TQError | None:
        try:
            await self._start_one()
        except TQError as error:
            return error
        return None

    async def _start_one(self) -> WorkerProcess:
        worker = await self._agent.start(self.spec, self._worker_events)
        if worker.state is not WorkerState.READY:  # it died between its readiness and here
            raise StartError(f"it exited at once ({worker.exit_reason()})", output=worker.output.text())
        self._workers.append(worker)
        log.info(
            "worker.ready",
            page=self.spec.page.name,
            revision=self.spec.revision,
            worker=worker.number,
            pid=worker.pid,
            endpoint=worker.endpoint,
        )
        return worker

    # --- deaths -------------------------------------------------------------------------------------------

    def _started(self, worker: WorkerProcess) -> None:
        log.info("worker.started", page=self.spec.page.name, revision=self.spec.revision, worker=worker.number)

    def _exited(self, worker: WorkerProcess) -> None:
        expected = self._retired or worker.ready_at == 0.0
        report = log.info if expected else log.error
        report(
            "worker.exited",
            page=self.spec.page.name,
            revision=self.spec.revision,
            worker=worker.number,
            pid=worker.pid,
            reason=worker.exit_reason(),
            output="" if expected else worker.output.text(),
        )
        if worker in self._workers:
            self._workers.remove(worker)
        if not expected:
            self._events.changed()
            self._replace_after(self._policy.died(worker.lived_seconds), worker)

    def _replace_after(self, delay: float, dead: WorkerProcess) -> None:
        if self._policy.deaths >= LOOP_DEATHS:
            self.failure = Failure(
                f"its workers keep dying ({dead.exit_reason()})",
                remedy=f"the next start is in {delay:g} s; a change of the page's files starts it at once",
                output=dead.output.text(),
            )
            self._events.changed()
        self._tasks.start(self._replace(delay), name=f"replace.{self.spec.page.name}")

    async def _replace(self, delay: float) -> None:
        while not self._retired:
            await asyncio.sleep(delay)
            if self._retired:
                return
            try:
                await self._start_one()
            except PageError as error:
                delay = self._policy.died(0.0)
                log.error(
                    "worker.not_replaced",
                    page=self.spec.page.name,
                    error=str(error),
                    output=error.output,
                    restart_in_seconds=delay,
                )
                continue
            if self._retired:
                await self.stop()
                return
            self.failure = None
            self._events.changed()
            return

    # --- the end ------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """From now on nothing is replaced; the workers finish what they have."""
        self._retired = True
        for worker in self._workers:
            if worker.state is WorkerState.READY:
                worker.move(WorkerState.DRAINING)

    async def stop(self) -> None:
        """End all workers."""
        self._retired = True
        stops = [
            self._tasks.start(self._agent.stop(worker, self._grace_seconds), name=f"stop.{worker.number}")
            for worker in self._workers
        ]
        if stops:
            await asyncio.wait(stops)
