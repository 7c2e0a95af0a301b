"""A file change, from the disk to the last request of the code before it. The spine of control.

One reconciler per page, one attempt at a time. The methods of :class:`Reconciler` stand in the order in which
things happen::

    read -> build -> start -> observe ready -> publish -> all proxies acknowledge -> drain old -> stop old

Newer content supersedes an attempt under way; the same content never starts one. Whatever fails before publication
leaves the old revision serving and is recorded with its output.
"""

from __future__ import annotations

import asyncio

from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Artifact, Source
from tqserver.control.agent import WorkerSpec
from tqserver.control.on_disk import OnDisk
from tqserver.control.plan import RetryPolicy, needs_new_workers
from tqserver.control.pool import Pool, PoolEvents
from tqserver.control.services import Services
from tqserver.control.standing import Standing
from tqserver.control.worker_process import WorkerProcess
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.model.config import WorkerSettings
from tqserver.model.errors import PageError, StartError, TQError
from tqserver.model.lifecycle import PageState
from tqserver.model.pages import Page

log = get_logger("reconciler")


class Reconciler:
    """Keeps what is live of one page equal to what is on disk."""

    def __init__(self, page: Page, services: Services) -> None:
        self.first_attempt = asyncio.Event()  # has come to its end, since the server started
        self._services = services
        self._disk = OnDisk(page, services)
        self._standing = Standing(page, services)
        self._retries = RetryPolicy()
        self._disturbed = asyncio.Event()
        self._settled = ""  # the digest that was last brought to its end, live or failed
        self._live_digest = ""
        self._retiring: set[asyncio.Task[None]] = set()
        self._reload_wanted = False
        self._is_awaited = False  # requests came before anything was live
        self._rested = asyncio.Event()  # set, and replaced, each time the disk has been followed to its end

    @property
    def page(self) -> Page:
        """The page as it was last found."""
        return self._disk.page

    @property
    def state(self) -> PageState:
        """What it does for its clients."""
        return self._standing.state

    @property
    def live(self) -> Pool | None:
        """The revision that serves."""
        return self._standing.live

    @property
    def settings(self) -> WorkerSettings:
        """The settings of this page's route."""
        return self._services.settings(self.page)

    def notify(self, page: Page | None = None) -> None:
        """Something that concerns the page has changed, perhaps the page's own description."""
        if page is not None and page != self.page:
            self._disk.page = page
            self._settled = ""
        self._disturbed.set()

    async def run(self) -> None:
        """Follow the disk until cancelled."""
        self._standing.publish()
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
            self._standing.begin()
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
            self._settled = source.digest
            self._standing.restore(source.digest)
        else:
            self._standing.give_in()

    # --- read ---------------------------------------------------------------------------------------------

    async def _read(self) -> Source | None:
        """Return what is on disk now; None if it is no page, which is then the page's failure."""
        try:
            return await self._disk.read(self._disturbed)
        except PageError as error:
            self._settled = ""
            if not self._standing.is_known(error):
                self.report(error)
            return None

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
            settled = self._disk.confirm(source)
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
        services, name = self._services, self.page.name
        revision, modules = services.journal.next_revision(name), services.journal.of(name).modules
        spec = WorkerSpec(self.page, revision, artifact.digest, self.settings, modules)
        events = PoolEvents(self._standing.publish, self._has_loaded, self._reads, self._is_given_up)
        terms = services.terms(self.page)
        pool = Pool(spec, terms, services.agent, services.retirement, services.tasks, events)
        await pool.start(self._first_workers)
        await _pause(services.config.workers.startup_delay_ms)
        if pool.gave_up and pool.failure is not None:
            await pool.stop()
            raise StartError(pool.failure.message, remedy=pool.failure.remedy, output=pool.failure.output)
        return pool

    @property
    def _first_workers(self) -> int:
        """An edit is tried with one worker at least; what merely exists may sleep until somebody asks."""
        return self.settings.min_workers or (1 if self.first_attempt.is_set() else 0)

    # --- publish ------------------------------------------------------------------------------------------

    def _go_live(self, pool: Pool, artifact: Artifact, settled: str) -> int:
        self._settled = self._live_digest = settled
        self._standing.go_live(pool)
        self._services.journal.went_live(self.page.name, pool.spec.revision, artifact.digest)
        self._learn(pool.workers[0].modules if pool.workers else pool.spec.modules)
        if self._is_awaited:
            self.demand()
        if pool.spec.settings != self.settings:  # they changed while it was made
            self.reconfigured()
        return self._standing.publish()

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

    def _reads(self, files: list[str]) -> None:
        """A worker read project files beside the page's own: what is on disk is known by another digest now."""
        try:
            renamed = self._disk.also_reads(files)
        except (PageError, Unsettled):
            self._disturbed.set()  # the next look at the disk says what is wrong
            return
        if renamed is not None and renamed[0] == self._settled:
            if self._live_digest == self._settled:
                self._live_digest = renamed[1]
            self._settled = renamed[1]

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
        if self.live is not None and self.live.gave_up:
            self._live_digest = ""
            self._standing.give_up()

    # --- retire -------------------------------------------------------------------------------------------

    def _retire(self, old: Pool, version: int) -> None:
        task = self._services.tasks.start(self._drain_and_stop(old, version), name=f"retire.{self.page.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drain_and_stop(self, old: Pool, version: int) -> None:
        await self._services.publisher.acknowledged(version)
        await _pause(self._services.config.workers.restart_delay_ms)
        old.retire()
        terms = self._services.terms(self.page)
        await self._services.retirement.retire(old.spec, old.workers, version, terms.drain_seconds, terms.grace_seconds)
        await old.stop()
        log.info("revision.retired", page=self.page.name, revision=old.spec.revision)

    def depart(self) -> int:
        """Take the page out of the table at once: another may claim its route in the same turn."""
        self.first_attempt.set()
        return self._standing.depart()

    async def leave(self) -> None:
        """The page is gone, or the server stops: drain what is live, stop it."""
        version = self.depart()
        live, self._standing.live = self.live, None
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
                self.live.apply(self._services.terms(self.page))
            self._standing.publish()
        self._disturbed.set()  # the mode is part of the digest

    # --- failure ------------------------------------------------------------------------------------------

    async def _settle_failure(self, source: Source, error: TQError | Unsettled) -> None:
        """Record a failure, unless the file was only half written: then what is on disk by now differs."""
        if isinstance(error, Unsettled):
            return
        await self._disk.quiet()
        newer = await self._read()
        if newer is not None and newer.digest == source.digest:
            self._settled = source.digest
            self.report(error)
            if isinstance(error, StartError) and not self._standing.answers:
                self._try_again_later(source.digest)

    def _try_again_later(self, digest: str) -> None:
        seconds = self._retries.failed(digest, self.settings.max_restarts)
        if seconds is not None:
            self._services.tasks.start(self._try_again(digest, seconds), name=f"retry.{self.page.name}")

    async def _try_again(self, digest: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if digest == self._settled and self.state is PageState.BROKEN:
            self._reload_wanted = True
            self._disturbed.set()

    def report(self, error: TQError) -> None:
        """What is on disk cannot be served, perhaps not even be read as a page: what is live stays live."""
        self.first_attempt.set()
        self._standing.fail(error)


async def _pause(milliseconds: int | None) -> None:
    """Wait as the operator has asked for in the configuration; by default not at all."""
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)
