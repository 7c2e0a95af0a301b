"""A page's spine, with an agent and proxies that do what the test says, when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from tqserver.build import contents
from tqserver.build.pipeline import Pipeline, Source
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store
from tqserver.control.agent import NodeAgent, WorkerEvents, WorkerSpec
from tqserver.control.collector import Collector
from tqserver.control.journal import Journal
from tqserver.control.on_disk import MOST_FILES_OUTSIDE
from tqserver.control.publisher import Publisher
from tqserver.control.reconciler import Reconciler
from tqserver.control.retirement import Retirement
from tqserver.control.revisions import Revision
from tqserver.control.services import Services
from tqserver.host.log import OutputLines
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config, FileWatcherSettings, WorkerSettings, WorkersSettings
from tqserver.model.errors import PageError, StartError, TQError
from tqserver.model.lifecycle import Cause, PageState, WorkerState
from tqserver.model.pages import Page
from tqserver.wire.messages import RouteEntry


@dataclass(eq=False)
class Worker:
    """A worker without a process."""

    number: int
    spec: WorkerSpec
    events: WorkerEvents
    state: WorkerState = WorkerState.READY
    ended_from: WorkerState = WorkerState.STARTING
    cause: Cause = Cause.DIED
    modules: tuple[str, ...] = ()
    pid: int = 0
    cgroup: None = None
    endpoint: str = ""
    ready_at: float = 1.0
    lived_seconds: float = 0.0
    output: OutputLines = field(default_factory=lambda: OutputLines(None))
    exited: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def digest(self) -> str:
        return self.spec.digest

    def move(self, wanted: WorkerState) -> None:
        self.state = wanted

    def exit_reason(self) -> str:
        return "status 7"

    async def wait_exit(self, seconds: float) -> bool:
        return await self.exited.wait()

    def die(self) -> None:
        self.ended_from, self.state = self.state, WorkerState.EXITED
        self.exited.set()
        self.events.exited(cast(Any, self))


class Agent:
    """Starts workers at once; those of a revision in ``held`` only when it is released, those in ``bad`` never."""

    def __init__(self) -> None:
        self.running: list[Worker] = []
        self.asked: list[int] = []
        self.held: dict[int, asyncio.Event] = {}
        self.bad: set[str] = set()
        self.may_pass = True  # what is wrong with those
        self.gone: set[str] = set()  # artifacts
        self._numbers = count(1)

    async def start(self, spec: WorkerSpec, events: WorkerEvents) -> Worker:
        self.asked.append(spec.revision)
        if spec.digest in self.bad:
            error = StartError("it does not start")
            error.may_pass = self.may_pass
            raise error
        if spec.revision in self.held and (self.asked.count(spec.revision) > 1 or spec.settings.min_workers == 1):
            await self.held[spec.revision].wait()
        worker = Worker(next(self._numbers), spec, events)
        self.running.append(worker)
        return worker

    def has(self, digest: str) -> bool:
        return digest not in self.gone

    async def stop(self, worker: Worker, grace_seconds: float) -> None:
        if worker in self.running:
            self.running.remove(worker)
            worker.die()

    def list(self) -> list[Worker]:
        return self.running


class Proxies:
    """What the publisher is to a reconciler: a table, acknowledged while ``acknowledge`` is set."""

    def __init__(self) -> None:
        self.version = 0
        self.rows: dict[str, RouteEntry] = {}
        self.acknowledge = asyncio.Event()
        self.acknowledge.set()

    def set_row(self, row: RouteEntry) -> int:
        self.rows[row.page] = row
        self.version += 1
        return self.version

    async def acknowledged(self, version: int) -> None:
        await self.acknowledge.wait()

    async def drained(self, version: int, worker: int) -> None:
        await self.acknowledge.wait()

    def forget(self, worker: int) -> None:
        """Nothing to forget."""


def read_at_once(pipeline: Pipeline, page: Page) -> Source:
    """Read a small page, which takes no turn of the event loop."""
    with pytest.raises(StopIteration) as done:
        pipeline.read(page, []).send(None)
    source: Source = done.value.value
    return source


@dataclass
class Site:
    file: Path
    agent: Agent
    proxies: Proxies
    reconciler: Reconciler
    services: Services
    store: Store
    following: asyncio.Task[None] = field(init=False)

    def save(self, text: str) -> None:
        self.file.write_text(text)
        self.reconciler.notify()

    def save_bad(self, text: str = "bad") -> None:
        """Save what does not start."""
        self.file.write_text(text)
        self.agent.bad.add(read_at_once(self.services.pipeline, self.reconciler.page).digest)
        self.reconciler.notify()

    async def saved(self, *texts: str) -> None:
        """Save one after the other, each live before the next."""
        for text in texts:
            self.save(text)
            await self.rests()

    def remembered(self, number: int) -> Revision:
        return next(each for each in self.services.journal.of("page").recent if each.number == number)

    async def roll_back(self, number: int) -> None:
        await asyncio.wait_for(self.reconciler.roll_back(self.remembered(number)), 20)

    async def refusal(self, number: int) -> str:
        """Ask for a rollback; return why it was not carried out."""
        with pytest.raises(TQError) as caught:
            await self.roll_back(number)
        return str(caught.value)

    @property
    def serves(self) -> str:
        """The code that answers."""
        live = self.reconciler.live
        assert live is not None
        return (self.store.path_of(live.spec.digest) / "main.py").read_text()

    @property
    def row(self) -> RouteEntry:
        return self.proxies.rows["page"]

    async def rests(self) -> None:
        await asyncio.wait_for(self.reconciler.settling().wait(), 20)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0)


def site_in(root: Path, tasks: TaskOwner, prepare: Callable[[Site], None] = lambda site: None, **settings: int) -> Site:
    """Begin, or begin anew with what is there."""
    file = root / "pages/page/main.py"
    if not file.exists():
        file.parent.mkdir(parents=True)
        file.write_text("v0")
    agent, proxies, store = Agent(), Proxies(), Store(root / "store")
    journal = Journal(root / "journal.json")
    workers = WorkersSettings(default=WorkerSettings(**settings))
    services = Services(
        Config(workers=workers, file_watcher=FileWatcherSettings(debounce_ms=1)),
        Pipeline(store, RUNTIMES, Project(root, "dev"), 1, 10.0),
        cast(NodeAgent, agent),
        cast(Publisher, proxies),
        Retirement(cast(Publisher, proxies), cast(NodeAgent, agent)),
        journal,
        Collector(store, journal, cast(NodeAgent, agent), tasks),
        tasks,
        learn=lambda modules: None,
        watch=lambda page, paths: False,
    )
    reconciler = Reconciler(Page("page", str(file.parent), "python", "main.py"), services)
    site = Site(file, agent, proxies, reconciler, services, store)
    prepare(site)
    site.following = tasks.start(reconciler.run(), name="page")
    return site


async def twice_saved_site(root: Path, tasks: TaskOwner) -> Site:
    """Return a site that serves v1, its revision 2."""
    site = site_in(root, tasks)
    await site.rests()
    await site.saved("v1")
    return site


async def rolled_back_site(root: Path, tasks: TaskOwner) -> Site:
    """Return a site that has v1 on disk, and serves v0 by its revision 3."""
    site = await twice_saved_site(root, tasks)
    await site.roll_back(1)
    return site


@pytest.fixture
async def tasks() -> AsyncIterator[TaskOwner]:
    failed: list[BaseException] = []
    owner = TaskOwner(lambda _, error: failed.append(error))
    yield owner
    await owner.close()
    assert not failed


async def test_what_was_live_is_retired_even_if_a_newer_save_comes_before_proxies_acknowledge(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    site.proxies.acknowledge.clear()
    site.save("v1")
    await site.until(lambda: site.row.revision == 2)
    site.save("v2")
    await site.until(lambda: site.row.revision == 3)
    site.proxies.acknowledge.set()
    await site.rests()
    await site.until(lambda: [worker.spec.revision for worker in site.agent.running] == [3])


@pytest.mark.parametrize("may_pass", [True, False])
async def test_what_never_started_is_tried_again_only_if_that_may_help(
    tmp_path: Path, tasks: TaskOwner, may_pass: bool
) -> None:
    def broken(site: Site) -> None:
        site.agent.may_pass = may_pass
        site.save_bad()

    site = site_in(tmp_path, tasks, broken)
    await site.rests()
    assert site.reconciler.state is PageState.BROKEN
    assert ("retry.page" in {task.get_name() for task in asyncio.all_tasks()}) is may_pass


async def test_an_edit_that_is_undone_before_it_is_live_leaves_the_page_live(tmp_path: Path, tasks: TaskOwner) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    site.agent.held[2] = asyncio.Event()
    site.save("v1")
    await site.until(lambda: 2 in site.agent.asked)
    site.save("v0")
    await site.rests()
    assert (site.reconciler.state, site.row.revision, site.row.failure) == (PageState.LIVE, 1, None)


async def test_an_edit_that_is_undone_to_what_had_failed_leaves_the_page_stale(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    site.save_bad()
    await site.rests()
    assert site.reconciler.state is PageState.STALE
    site.agent.held[3] = asyncio.Event()
    site.save("v1")
    await site.until(lambda: 3 in site.agent.asked)
    site.save("bad")
    await site.rests()
    assert site.reconciler.state is PageState.STALE
    assert site.row.failure is not None
    assert site.row.failure.message == "it does not start"


async def test_a_new_revision_whose_workers_die_does_not_take_the_old_one_along(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    """It is given up before it was live: what is live stays so, and the save is what failed."""
    site = site_in(tmp_path, tasks, min_workers=2, max_workers=2, max_restarts=1)
    await site.rests()
    site.agent.held[2] = asyncio.Event()
    site.save("v1")
    await site.until(lambda: any(worker.spec.revision == 2 for worker in site.agent.running))
    dying = next(worker for worker in site.agent.running if worker.spec.revision == 2)
    await site.until(lambda: dying in dying_pool(site, dying))
    site.agent.running.remove(dying)
    dying.die()
    assert site.reconciler.state is PageState.UPDATING
    site.agent.held[2].set()
    await site.rests()
    assert (site.reconciler.state, site.row.revision) == (PageState.STALE, 1)
    assert {worker.spec.revision for worker in site.agent.running} == {1}


async def test_a_defect_while_it_reads_is_the_pages_failure_and_the_next_change_is_followed(
    tmp_path: Path, tasks: TaskOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    with monkeypatch.context() as patch:
        patch.setattr(site.services.pipeline, "read", raises(MemoryError("no room")))
        site.save("v1")
        await site.rests()
        assert (site.reconciler.state, site.row.revision) == (PageState.STALE, 1)
        assert_names_a_defect(site, "MemoryError('no room')")
        await site.rests()  # who asks again is told again
    site.save("v2")
    await site.rests()
    assert (site.reconciler.state, site.row.revision, site.row.failure) == (PageState.LIVE, 2, None)


async def test_a_defect_in_an_attempt_is_the_pages_failure_and_a_reload_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []
    tasks = TaskOwner(lambda name, _: failed.append(name))
    site = site_in(tmp_path, tasks)
    with monkeypatch.context() as patch:
        patch.setattr(site.services.pipeline, "build", raises(RuntimeError("unforeseen")))
        await site.rests()
        assert (site.reconciler.state, site.row.revision) == (PageState.BROKEN, 0)
        assert_names_a_defect(site, "RuntimeError('unforeseen')")
    site.reconciler.reload()
    await site.rests()
    assert (site.reconciler.state, site.row.failure) == (PageState.LIVE, None)
    await tasks.close()
    assert failed == ["attempt.page"]


async def test_a_defect_while_an_attempt_is_under_way_ends_the_attempt(
    tmp_path: Path, tasks: TaskOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    site.agent.held[2] = asyncio.Event()
    site.save("v1")
    await site.until(lambda: 2 in site.agent.asked)
    with monkeypatch.context() as patch:
        patch.setattr(site.services.pipeline, "read", raises(OSError("gone")))
        await site.rests()
    site.agent.held[2].set()
    assert (site.reconciler.state, site.row.revision) == (PageState.STALE, 1)
    await site.rests()
    assert (site.reconciler.state, site.row.revision) == (PageState.LIVE, 3)


async def test_a_page_that_reads_without_end_is_followed_in_what_it_read_first(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    worker = site.agent.running[0]
    files = [f"{tmp_path}/{number}" for number in range(MOST_FILES_OUTSIDE + 10)]
    for read in (files[:10], files[10:], [*files, f"{tmp_path}/one more"]):
        worker.events.files(cast(Any, worker), read)
    await site.until(lambda: all(task.get_name() != "reads.page" for task in asyncio.all_tasks()))
    assert site.services.journal.of("page").files == frozenset(files[:MOST_FILES_OUTSIDE])


def raises(error: Exception) -> Callable[..., Any]:
    def read(*_: object) -> Any:
        raise error

    return read


def assert_names_a_defect(site: Site, error: str) -> None:
    assert site.row.failure is not None
    assert site.row.failure.message == f"a defect of tqserver: {error}"
    assert "in read" in site.row.failure.output


def dying_pool(site: Site, worker: Worker) -> list[Worker]:
    """The workers that the pool of this one has taken on: its events are bound to the pool."""
    pool = cast(Any, worker.events.exited).__self__
    return cast("list[Worker]", pool.workers)


# --- gone back to -----------------------------------------------------------------------------------------


async def test_a_revision_of_before_serves_until_the_next_edit(tmp_path: Path, tasks: TaskOwner) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    await site.saved("v1", "v2")
    await site.roll_back(1)
    assert (site.serves, site.row.revision, site.reconciler.rolled_back_to) == ("v0", 4, 1)
    await site.saved("v2")  # a touch
    assert (site.serves, site.row.revision, site.reconciler.state) == ("v0", 4, PageState.LIVE)
    await site.saved("v3")
    assert (site.serves, site.row.revision, site.reconciler.rolled_back_to) == ("v3", 5, 0)
    await site.saved("v2")
    assert site.serves == "v2", "the rollback is over"
    await site.until(lambda: [worker.spec.revision for worker in site.agent.running] == [6])


async def test_a_reload_serves_what_is_on_disk_again(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await rolled_back_site(tmp_path, tasks)
    site.reconciler.reload()
    await site.rests()
    assert (site.serves, site.reconciler.rolled_back_to) == ("v1", 0)


async def test_a_new_configuration_keeps_the_rollback(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await rolled_back_site(tmp_path, tasks)
    settings = WorkerSettings(env={"NEW": "1"})
    site.services.config = Config(workers=WorkersSettings(default=settings))
    site.reconciler.reconfigured()
    await site.rests()
    assert (site.serves, site.row.revision, site.reconciler.rolled_back_to) == ("v0", 4, 1)
    assert site.agent.running[-1].spec.settings == settings


async def test_a_broken_edit_of_a_page_that_is_rolled_back_and_its_undoing(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await rolled_back_site(tmp_path, tasks)
    site.save_bad()
    await site.rests()
    assert (site.serves, site.reconciler.state) == ("v0", PageState.STALE)
    await site.saved("v1")
    assert (site.serves, site.row.revision, site.reconciler.state) == ("v0", 3, PageState.LIVE)
    assert site.row.failure is None


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_revision_that_does_not_start_leaves_everything_as_it_was(
    tmp_path: Path, tasks: TaskOwner, is_broken: bool
) -> None:
    site = await twice_saved_site(tmp_path, tasks)
    if is_broken:
        site.save_bad()
        await site.rests()
    before = (site.reconciler.state, site.row.revision, site.row.failure)
    site.agent.bad.add(site.remembered(1).digest)
    with pytest.raises(PageError, match=r"revision 1 cannot be brought back.*it does not start"):
        await site.roll_back(1)
    await site.rests()
    assert (site.reconciler.state, site.row.revision, site.row.failure) == before
    assert (site.serves, site.reconciler.rolled_back_to) == ("v1", 0)


async def test_an_edit_during_a_rollback_wins(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await twice_saved_site(tmp_path, tasks)
    site.agent.held[3] = asyncio.Event()
    asked = tasks.start(site.refusal(1), name="asked")
    await site.until(lambda: 3 in site.agent.asked)
    assert "under way" in await site.refusal(1)
    site.save("v2")
    assert "changed meanwhile" in await asked
    await site.rests()
    assert (site.serves, site.reconciler.rolled_back_to) == ("v2", 0)


async def test_what_is_on_disk_is_no_page_and_a_revision_is_gone_back_to(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await twice_saved_site(tmp_path, tasks)
    site.file.unlink()
    site.file.mkdir()
    site.reconciler.notify()
    await site.rests()
    assert site.reconciler.state is PageState.STALE
    await site.roll_back(1)
    await site.rests()
    assert (site.serves, site.reconciler.state) == ("v0", PageState.STALE)
    site.file.rmdir()
    await site.saved("v2")
    assert (site.serves, site.reconciler.state) == ("v2", PageState.LIVE)


async def test_who_waits_is_told_that_the_page_is_gone(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await twice_saved_site(tmp_path, tasks)
    site.agent.held[3] = asyncio.Event()
    asked = tasks.start(site.refusal(1), name="asked")
    await site.until(lambda: 3 in site.agent.asked)
    site.following.cancel()
    assert "its page is gone" in await asked


# --- the next server --------------------------------------------------------------------------------------


async def ended(site: Site) -> None:
    site.following.cancel()
    await asyncio.wait({site.following})
    site.services.journal.save()


async def test_a_rollback_outlives_the_server(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await rolled_back_site(tmp_path, tasks)
    await ended(site)
    again = site_in(tmp_path, tasks)
    await again.rests()
    assert (again.serves, again.row.revision, again.reconciler.rolled_back_to) == ("v0", 4, 1)
    await again.saved("v2")
    assert again.serves == "v2"


async def test_a_rollback_ends_if_its_artifact_is_gone_at_the_next_start(tmp_path: Path, tasks: TaskOwner) -> None:
    site = await rolled_back_site(tmp_path, tasks)
    await ended(site)
    lost = site.remembered(1).digest
    again = site_in(tmp_path, tasks, lambda new: new.agent.gone.add(lost))
    await again.rests()
    assert (again.serves, again.reconciler.rolled_back_to) == ("v1", 0)


async def test_what_was_broken_while_no_server_ran_leaves_the_last_good_revision_serving(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    site = await twice_saved_site(tmp_path, tasks)
    await ended(site)
    again = site_in(tmp_path, tasks, lambda new: new.save_bad())
    await again.rests()
    assert (again.serves, again.row.revision, again.reconciler.state) == ("v1", 4, PageState.STALE)
    assert again.row.failure is not None
    assert again.row.failure.message == "it does not start"
    await again.saved("v1")
    assert (again.row.revision, again.reconciler.state) == (4, PageState.LIVE), "undone: it is what serves"
    await again.saved("v2")
    assert (again.serves, again.reconciler.state) == ("v2", PageState.LIVE)


async def test_a_page_that_sleeps_is_tried_at_the_start_if_it_was_edited_meanwhile(
    tmp_path: Path, tasks: TaskOwner
) -> None:
    site = site_in(tmp_path, tasks, min_workers=0)
    await site.rests()
    assert site.agent.asked == []
    await ended(site)
    same = site_in(tmp_path, tasks, min_workers=0)
    await same.rests()
    assert same.agent.asked == []
    await ended(same)
    edited = site_in(tmp_path, tasks, lambda new: new.save_bad(), min_workers=0)
    await edited.rests()
    assert (edited.serves, edited.reconciler.state) == ("v0", PageState.STALE)


async def test_what_is_no_page_any_more_leaves_the_last_good_revision_serving(tmp_path: Path, tasks: TaskOwner) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    await ended(site)
    site.file.unlink()
    site.file.mkdir()
    again = site_in(tmp_path, tasks)
    await again.rests()
    assert (again.serves, again.reconciler.state) == ("v0", PageState.STALE)


@pytest.mark.parametrize("trouble", ["its artifact is gone", "it does not start either", "it is what fails"])
async def test_the_last_good_revision_cannot_be_brought_back(tmp_path: Path, tasks: TaskOwner, trouble: str) -> None:
    site = site_in(tmp_path, tasks)
    await site.rests()
    await ended(site)
    last = site.remembered(1).digest

    def prepare(new: Site) -> None:
        match trouble:
            case "its artifact is gone":
                new.agent.gone.add(last)
                new.save_bad()
            case "it does not start either":
                new.agent.bad.add(last)
                new.save_bad()
            case _:
                new.agent.bad.add(last)

    again = site_in(tmp_path, tasks, prepare, max_restarts=1)
    await again.rests()
    assert (again.row.revision, again.reconciler.state) == (0, PageState.BROKEN)
    assert again.agent.asked.count(2) == 1
    assert len(again.agent.asked) == (2 if trouble == "it does not start either" else 1)


@pytest.mark.parametrize("held_bytes", [contents.HELD_BYTES, 1], ids=["small", "large"])
async def test_a_file_that_a_worker_reads_counts_and_starts_nothing_by_itself(
    tmp_path: Path, tasks: TaskOwner, monkeypatch: pytest.MonkeyPatch, held_bytes: int
) -> None:
    """Large pages are read in a thread: what is told meanwhile, by the worker and by whoever waits, is not lost."""
    monkeypatch.setattr(contents, "HELD_BYTES", held_bytes)
    site = site_in(tmp_path, tasks)
    await site.rests()
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    two.write_text("2")
    for file in (one, two):  # at once
        site.agent.running[0].events.files(cast(Any, site.agent.running[0]), [str(file)])
    await site.until(lambda: all(task.get_name() != "reads.page" for task in asyncio.all_tasks()))
    assert site.services.journal.of("page").files == {str(one), str(two)}
    await site.rests()
    assert site.agent.asked == [1]
    for file in (one, two):
        file.write_text("edited")
        site.reconciler.notify()
        await site.rests()
    assert site.agent.asked == [1, 2, 3]


async def test_who_asks_while_a_large_page_is_read_is_told_of_what_is_there_now(
    tmp_path: Path, tasks: TaskOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "HELD_BYTES", 1)
    site = site_in(tmp_path, tasks)
    await site.rests()
    for version in range(1, 6):
        site.reconciler.notify()  # it reads, and while it does ...
        await asyncio.sleep(0)
        site.file.write_text(f"v{version}")
        await site.rests()
        assert site.serves == f"v{version}"
