"""A file change, from the disk to the last request of the code before it. The spine of control.

One reconciler per page, one attempt at a time. The methods of :class:`Reconciler` stand in the order in which
things happen::

    read -> build -> start -> observe ready -> publish -> all proxies acknowledge -> drain old -> stop old

Newer content supersedes an attempt under way; the same content never starts one. Whatever fails before publication
leaves the old revision serving and is recorded with its output. A revision that is gone back to takes the same way,
without a build (``docs/decisions/0014``).
"""

from __future__ import annotations

import asyncio
from functools import partial

from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Source
from tqserver.control.agent import WorkerSpec
from tqserver.control.attempt import unless_overtaken
from tqserver.control.goal import NOTHING, Ask, Failed, Goal, Key
from tqserver.control.on_disk import OnDisk
from tqserver.control.outgoing import Outgoing
from tqserver.control.past import Past
from tqserver.control.plan import RetryPolicy, needs_new_workers
from tqserver.control.pool import Pool, PoolEvents
from tqserver.control.revisions import Revision
from tqserver.control.rows import as_defect
from tqserver.control.services import Services
from tqserver.control.standing import Standing
from tqserver.control.worker_process import WorkerProcess
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.model.config import WorkerSettings
from tqserver.model.errors import Defect, HostError, PageError, StartError, TQError
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
        self._past = Past(page.name, services)
        self._outgoing = Outgoing(page, services)
        self._retries = RetryPolicy()
        self._disturbed = asyncio.Event()
        self._settled = NOTHING  # what was last brought to its end, live or failed
        self._live_key = NOTHING
        self._reload_wanted = False
        self._is_awaited = False  # requests came before anything was live
        self._ask: Ask | None = None
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
    def rolled_back_to(self) -> int:
        """The revision that was gone back to and serves; 0: none was."""
        return self._live_key[1]

    @property
    def settings(self) -> WorkerSettings:
        """The settings of this page's route."""
        return self._services.settings(self.page)

    def notify(self, page: Page | None = None) -> None:
        """Something that concerns the page has changed, perhaps the page's own description."""
        if page is not None and page != self.page:
            self._disk.page = page
            self._standing.describe(page)
            self._settled = NOTHING
        self._disturbed.set()

    async def run(self) -> None:
        """Follow the disk until cancelled."""
        self._standing.publish()
        self._disturbed.set()
        try:
            while True:
                await self._disturbed.wait()
                self._disturbed.clear()
                try:
                    await self._follow()
                except Exception as error:
                    self._stumble(as_defect(error))
                if not self._disturbed.is_set():  # otherwise who asked meanwhile, as large files were read, waits on
                    self._rests()
        finally:
            self._rests()
            self._answer(HostError("its page is gone, or the server ends", remedy="tqserver status says what runs"))

    def _stumble(self, defect: Defect) -> None:
        """A defect of ours fails this try and nothing else: what is live goes on, the next change is followed."""
        self._settled = NOTHING
        self._answer(defect)
        self.report(defect)

    def _rests(self) -> None:
        self._rested.set()
        self._rested = asyncio.Event()

    async def _follow(self) -> None:
        """Make attempts until what is wanted has been brought to its end."""
        while (goal := await self._goal()) is not None and self._is_due(goal):
            self._reload_wanted = False
            error = await self._try(goal)
            if goal.asked:
                self._answer(error)
            elif error is not None:
                await self._settle_failure(goal, error)
        self._come_to_rest(goal)

    def _is_due(self, goal: Goal) -> bool:
        return goal.asked or self._reload_wanted or goal.key not in (self._settled, self._live_key)

    def _come_to_rest(self, goal: Goal | None) -> None:
        """Nothing is to be tried: if an edit was undone, on the way or later, what it was undone to holds again."""
        if goal is not None and goal.key == self._live_key:
            self._settled = goal.key
            self._standing.restore(goal.digest)
        else:
            self._standing.give_in()

    # --- read ---------------------------------------------------------------------------------------------

    async def _goal(self) -> Goal | None:
        """Return what shall be served now; None if what is on disk is no page, which is then the page's failure."""
        while True:
            source: Source | None = None
            try:
                source = await self._disk.read(self._disturbed)
            except PageError as error:
                if self._ask is None:
                    if await self._refuse(error):
                        continue
                    return None
            if self._ask is not None:
                revision = self._ask.revision
                return Goal(source, revision, revision.origin, asked=True)
            assert source is not None
            instead = self._past.in_place_of(partial(self._disk.own_digest, source), is_live=self.live is not None)
            return Goal(source, instead, instead.brings_back if instead is not None else 0)

    async def _refuse(self, error: PageError) -> bool:
        """What is on disk is no page. Tell whether it has to be looked at again."""
        self._settled = NOTHING
        if self._standing.is_known(error):
            return False
        tried = await self._bring_back(Goal(None))
        if not isinstance(tried, Unsettled):
            self.report(error)
        return True

    async def _is_still(self, goal: Goal) -> bool:
        """Tell whether on disk there is what there was."""
        try:
            source = await self._disk.read(self._disturbed)
        except PageError:
            return goal.source is None
        return source.digest == goal.digest

    # --- the attempt --------------------------------------------------------------------------------------

    async def _try(self, goal: Goal) -> Failed:
        """Make an attempt; return what it failed with, Unsettled if the disk says something else before its end."""
        self._standing.begin()
        name, tasks = f"attempt.{self.page.name}", self._services.tasks
        try:
            with self._services.collector.claimed(goal.artifact):
                return await unless_overtaken(
                    partial(self._attempt, goal), self._disturbed, partial(self._is_still, goal), tasks, name
                )
        except asyncio.CancelledError:  # the page is gone or the server stops: nothing new may go live
            self._reload_wanted = True  # if the server goes on after all
            raise

    async def _attempt(self, goal: Goal) -> None:
        begun = clock.monotonic()
        if goal.revision is None and goal.source is not None:
            await self._build(goal.source)
        pool = await self._start(goal)
        try:
            digest = await self._disk.confirm(goal.source) if goal.source is not None else ""
        except BaseException:
            await pool.stop()
            raise
        old = self.live
        version = self._go_live(pool, goal, digest)
        if old is not None:  # before anything is awaited: a newer save may end this attempt from here on
            self._outgoing.retire(old, version)
        await self._services.publisher.acknowledged(version)
        self.first_attempt.set()
        log.info(
            "revision.live",
            page=self.page.name,
            route=self.page.route,
            revision=pool.spec.revision,
            digest=goal.artifact,
            seconds=clock.monotonic() - begun,
            **({"brings_back": goal.revision.origin} if goal.revision is not None else {}),
        )
        self._services.collector.soon()

    async def _build(self, source: Source) -> None:
        log.info("build.started", page=self.page.name, digest=source.digest)
        artifact = await self._services.pipeline.build(self.page, source)
        log.info(
            "build.done",
            page=self.page.name,
            digest=artifact.digest,
            seconds=artifact.seconds,
            reused=artifact.reused,
        )

    async def _start(self, goal: Goal) -> Pool:
        services, revision = self._services, self._services.journal.next_revision(self.page.name)
        page = goal.revision.of(self.page) if goal.revision is not None else self.page
        spec = WorkerSpec(page, revision, goal.artifact, self.settings, self._past.modules)
        events = PoolEvents(self._standing.publish, self._has_loaded, self._has_read, self._is_given_up)
        terms = services.terms(self.page)
        pool = Pool(spec, terms, services.agent, services.retirement, services.tasks, events)
        await pool.start(self._first_workers(goal))
        await services.pause(services.config.workers.startup_delay_ms)
        if pool.gave_up and pool.failure is not None:
            await pool.stop()
            raise StartError(pool.failure.message, remedy=pool.failure.remedy, output=pool.failure.output)
        return pool

    def _first_workers(self, goal: Goal) -> int:
        """An edit is tried with one worker at least; what merely exists may sleep until somebody asks."""
        is_edit = self.first_attempt.is_set() or not self._past.knows(partial(self._disk.own_digest, goal.source))
        return self.settings.min_workers or (1 if is_edit and not goal.stopgap else 0)

    # --- publish ------------------------------------------------------------------------------------------

    def _go_live(self, pool: Pool, goal: Goal, digest: str) -> int:
        """``digest`` is how what is on disk is known from now on."""
        content = goal.revision.content if goal.revision is not None else digest
        if goal.stopgap:
            self._live_key = (content, goal.brings_back)
        else:
            self._settled = self._live_key = (digest, goal.brings_back)
        self._standing.go_live(pool)
        self._past.went_live(pool, goal, content, self._disk.own_digest(goal.source))
        self._past.learn(pool.workers[0].modules if pool.workers else pool.spec.modules)
        if self._is_awaited:
            self.demand()
        if pool.spec.settings != self.settings:  # they changed while it was made
            self.reconfigured()
        return self._standing.publish()

    def _has_loaded(self, worker: WorkerProcess) -> None:
        """A worker is ready: of a revision that is not live yet, :meth:`_go_live` learns, after the switch."""
        if self.live is not None and worker in self.live.workers:
            self._past.learn(worker.modules)

    def _has_read(self, files: list[str]) -> None:
        """A worker read project files beside the page's own."""
        self._services.tasks.start(self._rename(files), name=f"reads.{self.page.name}")

    async def _rename(self, files: list[str]) -> None:
        """What is on disk is known by another digest now, which tells these files too."""
        try:
            renamed = await self._disk.also_reads(files)
        except (PageError, Unsettled):
            self._disturbed.set()  # the next look at the disk says what is wrong
            return
        if renamed is not None and renamed[0] == self._settled[0]:
            before, after = renamed
            if self._live_key[0] == before:
                self._live_key = (after, self._live_key[1])
            self._settled = (after, self._settled[1])
            self._past.renamed(before, after)

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
            self._live_key = NOTHING
            self._standing.give_up()

    # --- the end ------------------------------------------------------------------------------------------

    def depart(self) -> int:
        """Take the page out of the table at once: another may claim its route in the same turn."""
        self.first_attempt.set()
        return self._standing.depart()

    async def leave(self) -> None:
        """The page is gone, or the server stops: drain what is live, stop it."""
        version = self.depart()
        live, self._standing.live = self.live, None
        if live is not None:
            self._outgoing.retire(live, version)
        await self._outgoing.gone()

    # --- asked from outside -------------------------------------------------------------------------------

    def reload(self) -> None:
        """Make a new revision of what is on disk, even if it is live already, was given up, or set aside."""
        self._past.end_rollback()
        self._reload_wanted = True
        self._disturbed.set()

    async def roll_back(self, revision: Revision) -> None:
        """Serve a revision of before until the page's own files change; if it cannot be, what is live stays.

        Raises :class:`~tqserver.model.errors.PageError` or :class:`HostError`, which then say why.
        """
        if self._ask is not None:
            raise HostError("a rollback of it is under way", remedy="ask again in a moment")
        ask = self._ask = Ask(revision)
        self._disturbed.set()
        await ask.answer

    def _answer(self, error: Failed) -> None:
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.fulfil(error)

    def settling(self) -> asyncio.Event:
        """Look at the disk, told of a change or not; the event is set when what is on it now is live or has failed.

        A following of the disk during which somebody asked is no end: it is followed once more.
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

    async def _settle_failure(self, goal: Goal, error: TQError | Unsettled) -> None:
        """Record a failure, unless the file was only half written: then what is on disk by now differs."""
        if isinstance(error, Unsettled):
            return
        await self._disk.quiet()
        if not await self._is_still(goal):
            return
        self._settled = goal.key
        tried = await self._bring_back(goal)
        if isinstance(tried, Unsettled):
            return
        self.report(error)
        if isinstance(error, StartError) and error.may_pass and not self._standing.answers:
            self._try_again_later(goal)

    async def _bring_back(self, failed: Goal) -> Failed:
        """Nothing was live since the server started, and what is on disk cannot be: the last good revision can."""
        if self.live is not None or self.first_attempt.is_set() or (last := self._past.last_good(failed)) is None:
            return None
        error = await self._try(Goal(failed.source, last, last.brings_back, stopgap=True))
        if isinstance(error, TQError):
            log.warning("page.not_brought_back", page=self.page.name, revision=last.number, error=error.message)
        return error

    def _try_again_later(self, goal: Goal) -> None:
        seconds = self._retries.failed(goal.digest, self.settings.max_restarts)
        if seconds is not None:
            self._services.tasks.start(self._try_again(goal.key, seconds), name=f"retry.{self.page.name}")

    async def _try_again(self, key: Key, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if key == self._settled and self.state is PageState.BROKEN:
            self._reload_wanted = True
            self._disturbed.set()

    def report(self, error: TQError) -> None:
        """What is on disk cannot be served, perhaps not even be read as a page: what is live stays live."""
        self.first_attempt.set()
        self._standing.fail(error)
