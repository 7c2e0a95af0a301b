"""What a server is made of, connected; and reconnected when the configuration changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store, store_directory
from tqserver.control.agent import LocalAgent
from tqserver.control.certificates import Certificates
from tqserver.control.collector import Collector
from tqserver.control.discovery import Discovery, discover
from tqserver.control.entrance import Entrance
from tqserver.control.journal import Journal
from tqserver.control.load import Loads
from tqserver.control.output import OutputHub
from tqserver.control.proxies import Proxy, ProxyPool
from tqserver.control.publisher import Publisher
from tqserver.control.retirement import Retirement
from tqserver.control.rows import snapshots
from tqserver.control.services import Services
from tqserver.control.site import Site
from tqserver.control.watcher import Watcher
from tqserver.control.zygotes import ZygoteTree
from tqserver.host import cgroup, clock
from tqserver.host.cgroup import Cgroups
from tqserver.host.log import get_logger
from tqserver.host.ports import PortPool
from tqserver.host.rundir import INSTANCE_VARIABLE, RunDirectory, journal_file
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config
from tqserver.model.errors import Location
from tqserver.wire.messages import Certificate, Counters, Demand, FromProxy, Refused

log = get_logger("parts")


class Parts:
    """The parts of one server. ``on_change`` gets every path that changed, before the pages do."""

    def __init__(
        self,
        project: Path,
        config: Config,
        run: RunDirectory,
        entrance: Entrance,
        certificates: Certificates,
        tasks: TaskOwner,
        on_change: Callable[[frozenset[str]], None],
    ) -> None:
        self.entrance = entrance
        self._certificates = certificates
        self._project = project
        self._tasks = tasks
        self._on_change = on_change
        self._reshaping = asyncio.Lock()
        environment = {**os.environ, INSTANCE_VARIABLE: run.instance}
        store = Store(store_directory(project, config.workers.temp_dir, run.root))
        store.sweep()
        self.loads = Loads()
        self.output = OutputHub()
        self.journal = Journal(journal_file(project))
        self.publisher = Publisher(snapshots(config))
        self.publisher.show(certificates.shown)
        certificates.on_renewal = self.publisher.show
        self.zygotes = ZygoteTree(project, environment, tasks)
        self.proxies = ProxyPool(
            config.server.proxy_count(), entrance, project, environment, tasks, self._heard, self._proxy_ended
        )
        self.publisher.connect(self.proxies)
        workers = config.workers
        self._ports = PortPool(workers.port_range_start, workers.port_range_end)
        self.agent = LocalAgent(
            project,
            config.mode,
            store,
            run,
            self._ports,
            self.zygotes,
            environment,
            workers.shutdown_grace_period_ms / 1000,
            tasks,
            self.output,
            Cgroups(cgroup.ROOT, cgroup.membership_of(), run.instance, run.earlier),
        )
        pipeline = Pipeline(
            store,
            RUNTIMES,
            Project(project, config.mode),
            os.cpu_count() or 1,
            float(workers.build_timeout_seconds),
        )
        self.watcher = Watcher(self._changed, self._owner_of, config.file_watcher.debounce_ms / 1000, tasks)
        self.site = Site(project / config.pages.directory, self.watcher, tasks)
        self.site.services = self._services = Services(
            config,
            pipeline,
            self.agent,
            self.publisher,
            Retirement(self.publisher, self.agent),
            self.journal,
            Collector(store, self.journal, self.agent, tasks),
            tasks,
            learn=self._learned,
            watch=self.site.watch_also,
        )

    async def start(self, found: Discovery, config: Config, watched: list[str]) -> None:
        """Follow the pages that were found and the files ``watched`` beside them; return when proxies route."""
        self.watcher.start([self._project / config.pages.directory])
        self.watcher.also([*watched, *self._certificates.files])
        self.site.take(found)
        self.journal.release_all_but({*found.pages, *(problem.page for problem in found.problems)})
        self._services.collector.soon()
        self.proxies.start()
        await self.publisher.acknowledged(self.publisher.touch())

    # --- what they tell one another -----------------------------------------------------------------------

    def _changed(self, paths: frozenset[str]) -> None:
        self._on_change(paths)
        self.site.changed(paths)

    def _owner_of(self, path: str) -> str:
        return self.site.owner_of(path)

    def _learned(self, modules: tuple[str, ...]) -> None:
        self.zygotes.learn(modules)
        self.zygotes.keep_only([self.journal.of(name).modules for name in self.site.reconcilers])

    def _heard(self, proxy: Proxy, message: FromProxy) -> None:
        match message:
            case Counters():
                self.site.observe(self.loads.heard(proxy.name, message, clock.monotonic()), self.loads)
            case Demand(page=page):
                self.site.demand(page)
            case Refused(worker=worker):
                self.site.refused(worker)
            case _:
                self.publisher.heard(proxy, message)

    def _proxy_ended(self, proxy: Proxy) -> None:
        self.loads.ended(proxy.name, [worker.number for worker in self.agent.list()])
        self.publisher.wake()

    # --- a new configuration ------------------------------------------------------------------------------

    def apply(self, config: Config, change: Change) -> None:
        """Go by ``config`` from now on; ``change`` is what was taken for it."""
        before = self._services.config
        if config.workers.temp_dir != before.workers.temp_dir:
            log.warning("config.needs_restart", key="workers.temp_dir", remedy="it takes effect at the next start")
        workers = config.workers
        self._services.config = config
        self._services.pipeline.configure(Project(self._project, config.mode), workers.build_timeout_seconds)
        self.agent.configure(config.mode, workers.shutdown_grace_period_ms / 1000)
        self._ports.resize(workers.port_range_start, workers.port_range_end)
        self.watcher.set_debounce(config.file_watcher.debounce_ms / 1000)
        self._certificates.use(config.server.tls, change.certificate)
        self.watcher.also(self._certificates.files)
        self.publisher.show(change.certificate)
        self.publisher.configure(snapshots(config))
        self.site.reconfigured(self._project / config.pages.directory, change.found)
        left, self.entrance = self.entrance, change.entrance
        self._tasks.start(self._reshape_proxies(config, left), name="proxies.reshape")

    async def _reshape_proxies(self, config: Config, left: Entrance) -> None:
        """The new ones route before the old ones leave; the old address is given up last."""
        async with self._reshaping:
            new, old = self.proxies.reshape(config.server.proxy_count(), self.entrance)
            if new:
                await self.publisher.acknowledged(self.publisher.touch())
            await self.proxies.dismiss(old, config.workers.default.drain_seconds(config.mode), patient=True)
            if left != self.entrance:
                left.close(keeping=self.entrance)
                log.info("server.moved", url=self.entrance.url)

    # --- the end ------------------------------------------------------------------------------------------

    async def stop(self, config: Config, *, patient: bool) -> None:
        """In order: proxies first, since they hold the requests; then workers. ``patient``: see :class:`Leave`."""
        await self.site.stop_following()
        await self.proxies.leave(config.workers.default.drain_seconds(config.mode), patient=patient)
        grace = config.workers.shutdown_grace_period_ms / 1000
        self.site.retire()
        await self.site.stop()
        for worker in self.agent.list():
            await self.agent.stop(worker, grace)

    async def end(self) -> None:
        """Leave nothing behind, however it came to this."""
        self.watcher.close()
        self.proxies.kill()
        self.site.retire()
        for worker in self.agent.list():
            await worker.stop(0.0)
        await self.zygotes.close()
        self.journal.save()


@dataclass(frozen=True, slots=True)
class Change:
    """What a new configuration needs that may be refused, taken before any of it is applied."""

    found: Discovery
    entrance: Entrance
    certificate: Certificate | None

    @classmethod
    def prepare(
        cls,
        project: Path,
        old: tuple[Entrance, Config],
        new: Config,
        certificates: Certificates,
        where: Callable[..., Location],
    ) -> Change:
        """Raises :class:`~tqserver.model.errors.HostError`: no such pages directory, the address is in use, ..."""
        entrance, config = old
        found = discover(project / new.pages.directory)
        certificate = certificates.read(new.server.tls)
        return cls(found, Entrance.open(new.server, entrance.at_hand(config.server), where), certificate)
