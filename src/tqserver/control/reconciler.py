"""A file change, from the disk to the last request of the code before it. The spine of control.

One reconciler per page, one attempt at a time. The methods of :class:`Reconciler` stand in the order in which
things happen::

    read -> build -> start -> observe ready -> publish -> all proxies acknowledge -> drain old -> stop old

Newer content supersedes an attempt under way; the same content never starts one. Whatever fails before publication
leaves the old revision serving and is recorded with its output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.files import Unfinished, Unsettled
from tqserver.build.pipeline import Artifact, Pipeline, Source
from tqserver.control.agent import NodeAgent, WorkerSpec
from tqserver.control.collector import Collector
from tqserver.control.journal import Journal
from tqserver.control.plan import needs_new_workers, retry_seconds
from tqserver.control.pool import Pool, PoolEvents, Terms
from tqserver.control.publisher import Publisher
from tqserver.control.retirement import Retirement
from tqserver.control.rows import as_failure, route_limits
from tqserver.control.worker_process import WorkerProcess
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config, WorkerSettings
from tqserver.model.errors import BuildError, PageError, StartError, TQError
from tqserver.model.lifecycle import PAGE_MOVES, PageState, advance
from tqserver.model.pages import Page
from tqserver.wire.messages import Failure, RouteEntry

UNFINISHED_SECONDS = 1.0  # for so long an empty entry file counts as one that is being written
log = get_logger("reconciler")


@dataclass(slots=True)
class Services:
    """What every reconciler works with. ``config`` is replaced whole when the file changes."""

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


class Reconciler:
    """Keeps what is live of one page equal to what is on disk."""

    def __init__(self, page: Page, services: Services) -> None:
        self.page = page
        self.state = PageState.NEW
        self.live: Pool | None = None
        self._services = services
        self._disturbed = asyncio.Event()
        self._settled = ""  # the digest that was last brought to its end, live or failed
        self._live_digest = ""
        self._failure: Failure | None = None
        self._shared = services.journal.of(page.name).files
        self._tried = ("", 0)  # digest, and how often it was started in vain
        self._retiring: set[asyncio.Task[None]] = set()
        self.first_attempt = asyncio.Event()  # has come to its end, since the server started
        self._reload_wanted = False
        self._is_awaited = False  # requests came before anything was live
        self._rested = asyncio.Event()  # set, and replaced, each time the disk has been followed to its end

    @property
    def settings(self) -> WorkerSettings:
        """The settings of this page's route."""
        return self._services.config.workers.for_route(self.page.route)

    def notify(self, page: Page | None = None) -> None:
        """Something that concerns the page has changed, perhaps the page's own description."""
        if page is not None and page != self.page:
            self.page = page
            self._settled = ""
        self._disturbed.set()

    async def run(self) -> None:
        """Follow the disk until cancelled."""
        self._publish_row()
        self._disturbed.set()
        try:
            while True:
                await self._disturbed.wait()
                self._disturbed.clear()
                await self._follow()
                self._rests()
        finally:
            self._rests()

    def _rests(self) -> None:
        self._rested.set()
        self._rested = asyncio.Event()

    async def _follow(self) -> None:
        """Make attempts until what is on disk has been brought to its end."""
        while (source := await self._read()) is not None and (self._reload_wanted or source.digest != self._settled):
            if source.digest == self._live_digest and not self._reload_wanted:
                break
            self._reload_wanted = False
            self._move(PageState.UPDATING if self._answers else PageState.BUILDING)
            attempt = self._services.tasks.start(self._outcome(source), name=f"attempt.{self.page.name}")
            try:
                if await self._superseded(attempt, source):
                    continue
            except asyncio.CancelledError:  # the page is gone or the server stops: nothing new may go live
                attempt.cancel()
                await asyncio.wait({attempt})
                self._reload_wanted = True  # if the server goes on after all
                raise
            if (error := attempt.result()) is not None:
                await self._settle_failure(source, error)
        if source is not None:
            self._come_to_rest(source)

    def _come_to_rest(self, source: Source) -> None:
        """Nothing is to be tried: if an edit was undone, on the way or later, what it was undone to holds again."""
        if source.digest == self._live_digest:
            self._back_to_live(source)
        elif self.state in (PageState.UPDATING, PageState.BUILDING):
            self._move(PageState.STALE if self._answers else PageState.BROKEN)

    @property
    def _answers(self) -> bool:
        return self.live is not None and not self.live.gave_up

    # --- read ---------------------------------------------------------------------------------------------

    async def _read(self) -> Source | None:
        """Return what is on disk now; None if it cannot be read, which is then the page's failure."""
        believed_at = clock.monotonic() + UNFINISHED_SECONDS
        while True:
            try:
                return self._look()
            except Unfinished as unfinished:
                if clock.monotonic() >= believed_at:
                    self._refuse(unfinished.error)
                    return None
                await self._change_until(believed_at)
            except Unsettled:
                await asyncio.sleep(self._quiet_seconds)  # files come and go: look again when they rest
            except PageError as error:
                self._refuse(error)
                return None

    async def _change_until(self, deadline: float) -> None:
        """Wait for the next change, but not for ever."""
        try:
            async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
                await self._disturbed.wait()
            self._disturbed.clear()
        except TimeoutError:
            return

    def _refuse(self, error: PageError) -> None:
        """What is on disk is no page."""
        if self._failure is None or self._failure.message != error.message:
            self._record_failure(error)
        self._settled = ""

    def _look(self) -> Source:
        """Return what is on disk; what it reads outside the page was watched before it was read."""
        while True:
            source = self._services.pipeline.read(self.page, sorted(map(Path, self._shared)))
            if not self._services.watch(self.page.name, source.outside):
                return source

    @property
    def _quiet_seconds(self) -> float:
        return self._services.config.file_watcher.debounce_ms / 1000

    # --- the attempt --------------------------------------------------------------------------------------

    async def _outcome(self, source: Source) -> TQError | Unsettled | None:
        """Make an attempt; return what it failed with."""
        try:
            with self._services.collector.claimed(source.digest):
                await self._attempt(source)
        except (TQError, Unsettled) as error:
            return error
        return None

    async def _attempt(self, source: Source) -> None:
        begun = clock.monotonic()
        artifact = await self._build(source)
        pool = await self._start(artifact)
        try:
            settled = self._still_on_disk(source)
        except BaseException:
            await pool.stop()
            raise
        old = self.live
        version = self._go_live(pool, artifact, settled)
        if old is not None:  # before anything is awaited: a newer save may end this attempt from here on
            self._retire(old, version)
        await self._services.publisher.acknowledged(version)
        self.first_attempt.set()
        log.info(
            "revision.live",
            page=self.page.name,
            route=self.page.route,
            revision=pool.spec.revision,
            digest=artifact.digest,
            seconds=clock.monotonic() - begun,
        )
        self._services.collector.soon()

    async def _superseded(self, attempt: asyncio.Task[TQError | Unsettled | None], source: Source) -> bool:
        """Wait for the attempt; end it and return True as soon as the disk says something else."""
        while not attempt.done():
            disturbed = self._services.tasks.start(self._disturbed.wait(), name="disturbed")
            await asyncio.wait({attempt, disturbed}, return_when=asyncio.FIRST_COMPLETED)
            disturbed.cancel()
            if attempt.done():
                break
            self._disturbed.clear()
            newer = await self._read()
            if newer is not None and newer.digest != source.digest and not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt})
                return True
        return attempt.cancelled()

    async def _build(self, source: Source) -> Artifact:
        log.info("build.started", page=self.page.name, digest=source.digest)
        artifact = await self._services.pipeline.build(self.page, source)
        log.info(
            "build.done",
            page=self.page.name,
            digest=artifact.digest,
            seconds=artifact.seconds,
            reused=artifact.reused,
        )
        return artifact

    async def _start(self, artifact: Artifact) -> Pool:
        memory = self._services.journal.of(self.page.name)
        spec = WorkerSpec(
            self.page,
            self._services.journal.next_revision(self.page.name),
            artifact.digest,
            self.settings,
            memory.modules,
        )
        events = PoolEvents(
            changed=self._publish_row, ready=self._has_loaded, files=self._reads, gave_up=self._is_given_up
        )
        services = self._services
        pool = Pool(spec, self._terms, services.agent, services.retirement, services.tasks, events)
        await pool.start(self._first_workers)
        await _pause(self._services.config.workers.startup_delay_ms)
        if pool.gave_up and pool.failure is not None:
            await pool.stop()
            raise StartError(pool.failure.message, remedy=pool.failure.remedy, output=pool.failure.output)
        return pool

    @property
    def _terms(self) -> Terms:
        config, settings = self._services.config, self.settings
        return Terms(settings, settings.drain_seconds(config.mode), config.workers.shutdown_grace_period_ms / 1000)

    @property
    def _first_workers(self) -> int:
        """An edit is tried with one worker at least; what merely exists may sleep until somebody asks."""
        return self.settings.min_workers or (1 if self.first_attempt.is_set() else 0)

    def _still_on_disk(self, source: Source) -> str:
        """Return the digest by which this content is known from now on; raise Unsettled if it is no more.

        The worker may have reported files that it reads beside the page's own; they count from now on.
        """
        read = self._services.pipeline.read
        if read(self.page, list(source.shared)).digest != source.digest:
            raise Unsettled(f"{self.page.name} changed while it was built")
        return read(self.page, sorted(map(Path, self._shared))).digest

    # --- publish ------------------------------------------------------------------------------------------

    def _go_live(self, pool: Pool, artifact: Artifact, settled: str) -> int:
        self.live, self._failure = pool, None
        self._settled = self._live_digest = settled
        self._move(PageState.LIVE)
        self._services.journal.went_live(self.page.name, pool.spec.revision, artifact.digest)
        self._learn(pool.workers[0].modules if pool.workers else pool.spec.modules)
        if self._is_awaited:
            self.demand()
        if pool.spec.settings != self.settings:  # they changed while it was made
            self.reconfigured()
        return self._publish_row()

    def _has_loaded(self, worker: WorkerProcess) -> None:
        """A worker is ready: of a revision that is not live yet, :meth:`_go_live` learns, after the switch."""
        if self.live is not None and worker in self.live.workers:
            self._learn(worker.modules)

    def _learn(self, modules: tuple[str, ...]) -> None:
        memory = self._services.journal.of(self.page.name)
        if set(modules) != set(memory.modules):
            memory.modules = modules
            self._services.journal.changed()
        self._services.learn(modules)

    def _publish_row(self) -> int:
        if self.state is PageState.GONE:
            return self._services.publisher.touch()
        workers = self.live.refs() if self.live is not None else []
        failure = self._failure or (self.live.failure if self.live is not None else None)
        may_grow = self.live is not None and len(self.live.ready) < self.settings.max_workers
        return self._services.publisher.set_row(
            RouteEntry(
                pattern=self.page.route,
                page=self.page.name,
                revision=self.live.spec.revision if self.live is not None else 0,
                workers=workers,
                failure=failure,
                limits=route_limits(self.settings, self._services.config.server, may_grow=may_grow),
            )
        )

    # --- load ---------------------------------------------------------------------------------------------

    def demand(self) -> None:
        """A proxy says that requests wait, or that all workers have enough to do."""
        self._is_awaited = self.live is None  # it says so once: whoever goes live first hears of it
        if self.live is not None:
            self.live.demand()

    def _is_given_up(self) -> None:
        """The live revision's workers keep dying: nothing answers, and only a change is worth another try.

        Of one that is not live yet, :meth:`_start` says so.
        """
        if not self._answers and self.live is not None:
            self._live_digest = ""
            self._move(PageState.FAILED)

    # --- retire -------------------------------------------------------------------------------------------

    def _retire(self, old: Pool, version: int) -> None:
        task = self._services.tasks.start(self._drain_and_stop(old, version), name=f"retire.{self.page.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drain_and_stop(self, old: Pool, version: int) -> None:
        await self._services.publisher.acknowledged(version)
        await _pause(self._services.config.workers.restart_delay_ms)
        old.retire()
        terms = self._terms
        await self._services.retirement.retire(old.spec, old.workers, version, terms.drain_seconds, terms.grace_seconds)
        await old.stop()
        log.info("revision.retired", page=self.page.name, revision=old.spec.revision)

    def depart(self) -> int:
        """Take the page out of the table at once: another may claim its route in the same turn."""
        self._move(PageState.GONE)
        self.first_attempt.set()
        return self._services.publisher.remove_row(self.page.name)

    async def leave(self) -> None:
        """The page is gone, or the server stops: drain what is live, stop it."""
        version = self.depart()
        live, self.live = self.live, None
        if live is not None:
            await self._services.publisher.acknowledged(version)
            self._retire(live, version)
        if self._retiring:
            await asyncio.wait(set(self._retiring))

    # --- asked from outside -------------------------------------------------------------------------------

    def reload(self) -> None:
        """Make a new revision of what is on disk, even if it is what is live already, or was given up."""
        self._reload_wanted = True
        self._disturbed.set()

    def settling(self) -> asyncio.Event:
        """Look at the disk, told of a change or not; the event is set when what is on it now is live or has failed.

        Every following of the disk ends with a read in the same turn of the event loop, so the next end will do.
        """
        self._disturbed.set()
        return self._rested

    def reconfigured(self) -> None:
        """The configuration was replaced: what workers are told at their start takes new ones."""
        if self.live is not None:
            if needs_new_workers(self.live.spec.settings, self.settings):
                self._reload_wanted = True
            else:
                self.live.apply(self._terms)
            self._publish_row()
        self._disturbed.set()  # the mode is part of the digest

    # --- failure ------------------------------------------------------------------------------------------

    async def _settle_failure(self, source: Source, error: TQError | Unsettled) -> None:
        """Record a failure, unless the file was only half written: then what is on disk by now differs."""
        if isinstance(error, Unsettled):
            return
        await asyncio.sleep(self._quiet_seconds)
        newer = await self._read()
        if newer is not None and newer.digest == source.digest:
            self._settled = source.digest
            self._record_failure(error)
            if isinstance(error, StartError) and not self._answers:
                self._try_again_later(source.digest)

    def _try_again_later(self, digest: str) -> None:
        """The page need not be at fault: what it needs may not be up yet. Nothing is tried for ever, or often."""
        if digest != self._tried[0]:
            self._tried = (digest, 0)
        most, tries = self.settings.max_restarts, self._tried[1] + 1
        self._tried = (digest, tries)
        if not most or tries < most:
            self._services.tasks.start(self._try_again(digest, retry_seconds(tries)), name=f"retry.{self.page.name}")

    async def _try_again(self, digest: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if digest == self._settled and self.state is PageState.BROKEN:
            self._reload_wanted = True
            self._disturbed.set()

    def report(self, error: TQError) -> None:
        """The page cannot even be read as a page: what is live stays live."""
        self._record_failure(error)

    def _record_failure(self, error: TQError) -> None:
        before, self._failure = self._failure, as_failure(error)
        if self.state is PageState.NEW:
            self._move(PageState.BUILDING)
        if self.state is PageState.LIVE:
            self._move(PageState.UPDATING)
        self.first_attempt.set()
        self._move(PageState.STALE if self._answers else PageState.BROKEN)
        self._publish_row()
        serving = self.live.spec.revision if self.live is not None else "nothing"
        if before is not None and before.message == error.message:
            log.info("page.still_failing", page=self.page.name, error=error.message, serving=serving)
            return
        log.error(
            "build.failed" if isinstance(error, BuildError) else "page.failed",
            page=self.page.name,
            error=error.message,
            where=self._failure.where,
            remedy=error.remedy,
            output=error.output,
            serving=serving,
        )

    def _back_to_live(self, source: Source) -> None:
        """What is live is what is on disk."""
        self._settled = source.digest
        if self.state is not PageState.LIVE:
            self._failure = None
            self._move(PageState.LIVE)
            log.info("page.restored", page=self.page.name, digest=source.digest)
            self._publish_row()

    # --- what else it reads -------------------------------------------------------------------------------

    def _reads(self, files: list[str]) -> None:
        """A worker read project files beside the page's own: their change concerns the page too."""
        grown = self._shared | frozenset(files)
        if grown == self._shared:
            return
        try:
            unchanged = self._look().digest == self._settled
            self._shared = grown
            digest = self._look().digest
            if unchanged:
                if self._live_digest == self._settled:
                    self._live_digest = digest
                self._settled = digest
        except (PageError, Unsettled):
            self._shared = grown  # the next look at the disk says what is wrong
            self._disturbed.set()
        self._services.journal.of(self.page.name).files = grown
        self._services.journal.changed()

    def _move(self, wanted: PageState) -> None:
        if self.state is not wanted:
            self.state = advance(PAGE_MOVES, self.state, wanted)


async def _pause(milliseconds: int | None) -> None:
    """Wait as the operator has asked for in the configuration; by default not at all."""
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)
