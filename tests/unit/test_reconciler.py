"""A page's spine, with an agent and proxies that do what the test says, when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store
from tqserver.control.agent import NodeAgent, WorkerEvents, WorkerSpec
from tqserver.control.collector import Collector
from tqserver.control.journal import Journal
from tqserver.control.publisher import Publisher
from tqserver.control.reconciler import Reconciler
from tqserver.control.retirement import Retirement
from tqserver.control.services import Services
from tqserver.host.log import OutputLines
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config, FileWatcherSettings, WorkerSettings, WorkersSettings
from tqserver.model.errors import StartError
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
        self._numbers = count(1)

    async def start(self, spec: WorkerSpec, events: WorkerEvents) -> Worker:
        self.asked.append(spec.revision)
        if spec.digest in self.bad:
            raise StartError("it does not start")
        if spec.revision in self.held and (self.asked.count(spec.revision) > 1 or spec.settings.min_workers == 1):
            await self.held[spec.revision].wait()
        worker = Worker(next(self._numbers), spec, events)
        self.running.append(worker)
        return worker

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


@dataclass
class Site:
    file: Path
    agent: Agent
    proxies: Proxies
    reconciler: Reconciler
    services: Services

    def save(self, text: str) -> None:
        self.file.write_text(text)
        self.reconciler.notify()

    @property
    def row(self) -> RouteEntry:
        return self.proxies.rows["page"]

    async def rests(self) -> None:
        await asyncio.wait_for(self.reconciler.settling().wait(), 20)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0)


def site_in(root: Path, tasks: TaskOwner, **settings: int) -> Site:
    file = root / "pages/page/main.py"
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
    tasks.start(reconciler.run(), name="page")
    return Site(file, agent, proxies, reconciler, services)


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
    site.file.write_text("bad")
    site.agent.bad.add(site.services.pipeline.read(site.reconciler.page, []).digest)
    site.reconciler.notify()
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


def dying_pool(site: Site, worker: Worker) -> list[Worker]:
    """The workers that the pool of this one has taken on: its events are bound to the pool."""
    pool = cast(Any, worker.events.exited).__self__
    return cast("list[Worker]", pool.workers)
