"""The workers of one revision: as many as are wanted, each well, each within its limits.

``wanted`` lies between ``min_workers`` and ``max_workers``; it grows by demand and shrinks when fewer would have
been enough. One task mends: it starts workers while there are fewer than wanted, at once after the first death
and with a backoff while they keep dying, until the restart policy is spent. A worker that is replaced stays in
the table until its replacement is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tqserver.control.agent import NodeAgent, WorkerEvents, WorkerSpec
from tqserver.control.load import PageLoad, WorkerLoad
from tqserver.control.monitor import Monitor
from tqserver.control.plan import Idleness, RestartPolicy, jittered, needed_workers
from tqserver.control.retirement import Retirement
from tqserver.control.rows import as_failure
from tqserver.control.worker_process import WorkerProcess
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import WorkerSettings
from tqserver.model.errors import PageError, StartError, TQError
from tqserver.model.lifecycle import Cause, WorkerState
from tqserver.wire.messages import Failure, WorkerRef

LOOP_DEATHS = 5  # from then on clients are told, instead of kept waiting
LEAST_IDLE_SECONDS = 2.0  # proxies count once a second: a worker cannot be seen to be idle for less
MOST_SILENT = 3  # requests in a row without an answer in time, after which a worker is taken to hang
log = get_logger("pool")


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a pool runs; may change while it does."""

    settings: WorkerSettings
    drain_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Whom a pool tells.

    ``changed``: its ready workers or its failure changed; returns the version of the table that will show it.
    ``ready``: a worker is, with what it has loaded. ``files``: a worker read these project files.
    ``gave_up``: so many workers died that no more are started.
    """

    changed: Callable[[], int]
    ready: Callable[[WorkerProcess], None]
    files: Callable[[list[str]], None]
    gave_up: Callable[[], None]


class Pool:
    """The workers of one revision. ``failure``: why there is none, or none that stays."""

    def __init__(
        self,
        spec: WorkerSpec,
        terms: Terms,
        agent: NodeAgent,
        retirement: Retirement,
        tasks: TaskOwner,
        events: PoolEvents,
    ) -> None:
        self.spec = spec
        self.failure: Failure | None = None
        self.gave_up = False
        self.last_exit = ""
        self._log = log.bind(page=spec.page.name, revision=spec.revision)
        self._terms = terms
        self._agent = agent
        self._retirement = retirement
        self._tasks = tasks
        self._events = events
        self._policy = RestartPolicy(terms.settings.max_restarts, terms.settings.restart_period_seconds)
        self._workers: list[WorkerProcess] = []
        self._wanted = 0
        self._delay = 0.0  # seconds to wait before the next start
        self._mending: asyncio.Task[None] | None = None
        self._shrinking: asyncio.Task[None] | None = None
        self._monitors: dict[int, Monitor] = {}
        self._being_replaced: set[int] = set()
        self._idleness = Idleness()
        self._load = PageLoad()  # when proxies last counted
        self._loads: Mapping[int, WorkerLoad] = {}
        self._retired = False
        self._worker_events = WorkerEvents(self._started, self._exited, lambda _, files: events.files(files))

    @property
    def workers(self) -> list[WorkerProcess]:
        """The workers that were seen ready and have not exited."""
        return list(self._workers)

    @property
    def ready(self) -> list[WorkerProcess]:
        """The workers that get requests."""
        return [worker for worker in self._workers if worker.state is WorkerState.READY]

    def refs(self) -> list[WorkerRef]:
        """Return the ready workers for the routing table."""
        return [WorkerRef(worker.number, worker.endpoint) for worker in self.ready]

    # --- start --------------------------------------------------------------------------------------------

    async def start(self, count: int) -> None:
        """Start ``count`` workers; all become ready or none stays. Raises :class:`StartError`."""
        self._wanted = count
        starts = [
            self._tasks.start(self._start_one_quietly(), name=f"start.{self.spec.page.name}") for _ in range(count)
        ]
        try:
            results = [await start for start in starts]
        except BaseException:
            for start in starts:
                start.cancel()
            if starts:
                await asyncio.wait(starts)
            await self.stop()
            raise
        errors = [error for error in results if error is not None]
        if errors:
            await self.stop()
            raise errors[0]
        self._look_at_idleness()

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
        self._monitors[worker.number] = Monitor(worker, lambda: self._terms.settings, self._replace_soon)
        self._monitors[worker.number].look(self._tasks)
        self._log.info(
            "worker.ready",
            worker=worker.number,
            pid=worker.pid,
            endpoint=worker.endpoint,
        )
        self._events.ready(worker)
        return worker

    def _started(self, worker: WorkerProcess) -> None:
        self._log.info("worker.started", worker=worker.number)

    # --- as many as are wanted ----------------------------------------------------------------------------

    def apply(self, terms: Terms) -> None:
        """Run by these terms from now on."""
        self._terms = terms
        settings = terms.settings
        self._policy.most, self._policy.period_seconds = settings.max_restarts, settings.restart_period_seconds
        for monitor in self._monitors.values():
            monitor.look(self._tasks)
        self._want(min(max(self._wanted, settings.min_workers), settings.max_workers))
        self._look_at_idleness()

    def demand(self) -> None:
        """Requests wait, or every worker has as many as it should: one more, if there may be one."""
        if self._wanted <= len(self.ready) and self._wanted < self._terms.settings.max_workers:
            self._want(self._wanted + 1)

    def refused(self, worker: int) -> None:
        """A proxy could not reach a worker, or got no answer from it: look at it, if it is one of these."""
        if worker in self._monitors:
            self._monitors[worker].look_at_once(self._tasks)

    def _want(self, count: int) -> None:
        if count != self._wanted:
            self._wanted = count
            self._log_scaled()
        surplus = self.ready[count:]
        if surplus:
            self._retire_soon(surplus)
        self._mend()

    def _log_scaled(self) -> None:
        self._log.info("pool.scaled", workers=self._wanted)

    def _mend(self) -> None:
        if self._mending is None or self._mending.done():
            self._mending = self._tasks.start(self._start_missing(), name=f"mend.{self.spec.page.name}")

    def _is_short(self) -> bool:
        return not self._retired and not self.gave_up and len(self.ready) < self._wanted

    async def _start_missing(self) -> None:
        while self._is_short():
            if self._delay:
                await asyncio.sleep(self._delay)
                if not self._is_short():
                    return
            try:
                worker = await self._start_one()
            except PageError as error:
                self._not_started(error)
                continue
            if self._retired:  # too late; those before it may still be finishing what they have
                await self._agent.stop(worker, self._terms.grace_seconds)
                return
            self._delay, self.failure = 0.0, None
            self._events.changed()
            self._look_at_idleness()

    def _not_started(self, error: PageError) -> None:
        self._delay = self._policy.died(0.0, clock.monotonic())
        self._log.error(
            "worker.not_replaced",
            error=str(error),
            output=error.output,
            restart_in_seconds=self._delay,
        )
        if not self.ready:  # who waits for it is told why, instead of waiting for nothing
            self.failure = as_failure(error)
        self._give_up_if_spent(error.output)
        self._events.changed()

    # --- fewer --------------------------------------------------------------------------------------------

    def observe(self, page: PageLoad, workers: Mapping[int, WorkerLoad]) -> None:
        """Proxies have counted: ``page`` since the last time, ``workers`` since each began."""
        settings = self._terms.settings
        self._load, self._loads = page, workers
        self._note_need(page.requests)
        for worker in self.ready:
            load = workers.get(worker.number)
            if load is None:
                continue
            if settings.max_requests and load.requests >= jittered(settings.max_requests, worker.number):
                reason = f"it has served {load.requests} requests (max_requests)"
                self._replace_soon(worker, Cause.MAX_REQUESTS, reason)
            elif load.silent >= MOST_SILENT:
                self._replace_soon(worker, Cause.TIMEOUTS, f"{load.silent} requests in a row timed out")

    def _note_need(self, requests: int) -> None:
        """What was in flight when proxies last counted still is: they count when something changes."""
        in_flight = self._load.in_flight + self._load.waiting
        needed = needed_workers(in_flight, requests, self._terms.settings.concurrency)
        self._idleness.observe(needed, len(self.ready), clock.monotonic())

    def _look_at_idleness(self) -> None:
        self._note_need(0)
        idle_task_runs = self._shrinking is not None and not self._shrinking.done()
        if self._terms.settings.idle_stop_seconds and not idle_task_runs:
            self._shrinking = self._tasks.start(self._shrink_when_idle(), name=f"shrink.{self.spec.page.name}")

    async def _shrink_when_idle(self) -> None:
        """Ends when there is no worker that might go; the next one that comes starts it anew."""
        while not self._retired:
            due = self._idleness.next_due(self._terms.settings.min_workers, self._idle_seconds)
            if due is None or not self._terms.settings.idle_stop_seconds:
                return
            await asyncio.sleep(max(due - clock.monotonic(), LEAST_IDLE_SECONDS / 4))
            self._note_need(0)
            surplus = self._idleness.surplus(self._terms.settings.min_workers, self._idle_seconds, clock.monotonic())
            resting = [worker for worker in self.ready if self._is_resting(worker)][-surplus:] if surplus else []
            if resting and not self._retired and self._wanted == len(self.ready):
                self._wanted -= len(resting)
                self._log_scaled()
                self._retire_soon(resting)
                self._note_need(0)

    @property
    def _idle_seconds(self) -> float:
        return max(self._terms.settings.idle_stop_seconds, LEAST_IDLE_SECONDS)

    def _is_resting(self, worker: WorkerProcess) -> bool:
        """Tell whether nothing is in flight for it; a stream that lasts must not be cut to save a process."""
        load = self._loads.get(worker.number)
        return load is None or not load.in_flight

    # --- deaths -------------------------------------------------------------------------------------------

    def _exited(self, worker: WorkerProcess) -> None:
        expected = self._retired or worker.ended_from is not WorkerState.READY
        report = self._log.info if expected else self._log.error
        report(
            "worker.exited",
            worker=worker.number,
            pid=worker.pid,
            cause="" if expected else worker.cause.value,
            reason=worker.exit_reason(),
            output="" if expected else worker.output.text(),
        )
        self._monitors.pop(worker.number, None)
        if worker in self._workers:
            self._workers.remove(worker)
        if not expected:
            self.last_exit = worker.exit_reason()
            self._died(worker)

    def _died(self, dead: WorkerProcess) -> None:
        self._delay = self._policy.died(dead.lived_seconds, clock.monotonic())
        output = dead.output.text()
        if self._policy.deaths >= LOOP_DEATHS:
            self.failure = Failure(
                f"its workers keep dying ({self.last_exit})",
                remedy=f"the next start is in {self._delay:g} s; a change of the page's files starts it at once",
                output=output,
            )
        self._give_up_if_spent(output)
        self._events.changed()
        if dead.number not in self._being_replaced:
            self._mend()

    def _give_up_if_spent(self, output: str) -> None:
        if not self._policy.is_spent or self.gave_up:
            return
        self.gave_up = True
        why = f" ({self.last_exit})" if self.last_exit else ""
        self.failure = Failure(
            f"{len(self._policy.recent)} of its workers died{why}: no more are started",
            remedy="change the page's files, or run tqserver reload; max_restarts says how many deaths are too many",
            output=output,
        )
        self._log.error(
            "page.gave_up",
            error=self.failure.message,
            remedy=self.failure.remedy,
            output=output,
        )
        self._events.gave_up()

    # --- replacements -------------------------------------------------------------------------------------

    def _replace_soon(self, worker: WorkerProcess, cause: Cause, reason: str) -> None:
        if self._retired or worker.number in self._being_replaced or worker.state is not WorkerState.READY:
            return
        self._being_replaced.add(worker.number)
        self._log.info(
            "worker.recycled",
            worker=worker.number,
            pid=worker.pid,
            cause=cause.value,
            reason=reason,
        )
        self._tasks.start(self._replace(worker), name=f"replace.{worker.number}")

    async def _replace(self, worker: WorkerProcess) -> None:
        """The new one first; if it does not start, the old one goes on and is looked at again."""
        try:
            new = await self._start_one()
        except PageError as error:
            self._not_started(error)
            await asyncio.sleep(self._delay)
            return
        finally:
            self._being_replaced.discard(worker.number)
            if worker.state is WorkerState.EXITED:
                self._mend()
        if self._retired:
            await self._agent.stop(new, self._terms.grace_seconds)
        elif worker.state is WorkerState.READY:
            await self._retire_now([worker])
        else:
            self._events.changed()

    def _retire_soon(self, workers: list[WorkerProcess]) -> None:
        for worker in workers:
            worker.move(WorkerState.DRAINING)
        version = self._events.changed()
        self._tasks.start(self._end(workers, version), name=f"retire.{self.spec.page.name}")

    async def _retire_now(self, workers: list[WorkerProcess]) -> None:
        for worker in workers:
            worker.move(WorkerState.DRAINING)
        await self._end(workers, self._events.changed())

    async def _end(self, workers: list[WorkerProcess], version: int) -> None:
        terms = self._terms
        await self._retirement.retire(self.spec, workers, version, terms.drain_seconds, terms.grace_seconds)

    # --- the end ------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """From now on nothing is replaced; the workers finish what they have."""
        self._retired = True
        for worker in self.ready:
            worker.move(WorkerState.DRAINING)

    async def stop(self) -> None:
        """End all workers."""
        self._retired = True
        stops = [
            self._tasks.start(self._agent.stop(worker, self._terms.grace_seconds), name=f"stop.{worker.number}")
            for worker in self._workers
        ]
        if stops:
            await asyncio.wait(stops)
