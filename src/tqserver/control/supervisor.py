"""The server's life: from the lock to the last worker.

``run`` reads as the life does: prepare, serve, wait, stop.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store, store_directory
from tqserver.control.agent import LocalAgent
from tqserver.control.collector import Collector
from tqserver.control.config_file import ConfigFile
from tqserver.control.discovery import Discovery, discover
from tqserver.control.events import Events
from tqserver.control.journal import Journal
from tqserver.control.load import Loads
from tqserver.control.output import OutputHub
from tqserver.control.proxies import Proxy, ProxyPool
from tqserver.control.publisher import Publisher
from tqserver.control.reconciler import Services
from tqserver.control.retirement import Retirement
from tqserver.control.running import Running
from tqserver.control.site import Site
from tqserver.control.upgrade import Estate, Successor
from tqserver.control.watcher import Watcher
from tqserver.control.zygotes import ZygoteTree
from tqserver.host import clock, sockets
from tqserver.host.log import DatedFile, configure, get_logger, tap
from tqserver.host.ports import PortPool
from tqserver.host.process import become_subreaper, reaper
from tqserver.host.rundir import INSTANCE_VARIABLE, RunDirectory, admin_socket, journal_file
from tqserver.host.signals import SignalHandlers
from tqserver.host.systemd import ServiceManager
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config
from tqserver.model.errors import ConfigError, HostError
from tqserver.wire.messages import Counters, Demand, FromProxy, ServerLimits

if TYPE_CHECKING:
    from tqserver.control.admin_socket import AdminSocket

log = get_logger("supervisor")


class Supervisor:
    """One server in one project directory.

    Raises :class:`HostError` from :meth:`run` if it cannot start: a port in use, another server, no pages.
    """

    def __init__(self, project: Path, config_file: ConfigFile, *, quiet: bool) -> None:
        self._started_at = clock.wall()
        self._project = project
        self._config_file = config_file
        self._config = config_file.read()
        self._quiet = quiet
        self._tasks = TaskOwner(self._task_failed)
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._reshaping = asyncio.Lock()
        self._is_handing_over = False
        self._manager = ServiceManager(os.environ)
        self._estate = Estate.in_environment(os.environ)
        self._loads = Loads()
        self._events, self._output = Events(), OutputHub()
        self._admin: AdminSocket | None = None

    async def run(self) -> None:
        """Serve until a signal says stop."""
        self._prepare()
        try:
            await self._serve()
            await self._stop.wait()
            await self._drain()
        finally:
            await self._end()

    # --- prepare ------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Take what may be refused, before anything is started."""
        config, project = self._config, self._project
        self._configure_log()
        tap(self._events.take)
        _warn_of(config)
        found = discover(project / config.pages.directory)
        self._listener = self._take_listener()
        try:
            self._rundir = RunDirectory(project, self._estate.lock if self._estate is not None else None)
        except HostError:
            self._listener.close()
            raise
        if self._rundir.killed:
            log.warning("leftovers.killed", pids=self._rundir.killed, reason="the last server was killed")
        become_subreaper()
        reaper().install()
        self._signals = SignalHandlers(
            {
                signal.SIGTERM: self._asked_to_stop,
                signal.SIGINT: self._asked_to_stop,
                signal.SIGHUP: self._asked_to_reconfigure,
                signal.SIGUSR2: self._asked_to_hand_over,
            }
        )
        self._signals.install()
        self._build_parts()
        self._found = found

    def _take_listener(self) -> socket.socket:
        """Inherited from the server before this one, or from the service manager, or our own."""
        if self._estate is not None:
            return self._estate.listener
        if self._manager.listeners:
            first, *more = self._manager.listeners
            for listener in more:
                log.warning("listener.unused", url=sockets.url_of(listener), remedy="pass one socket only")
            return first
        return sockets.listen(self._config.server.host, self._config.server.port)

    def _configure_log(self) -> None:
        file = self._config.server.log_file
        configure(quiet=self._quiet, file=DatedFile(self._project / file, {}) if file else None)

    def _build_parts(self) -> None:
        config, project = self._config, self._project
        environment = {**os.environ, INSTANCE_VARIABLE: self._rundir.instance}
        store = Store(store_directory(project, config.workers.temp_dir, self._rundir.root))
        store.sweep()
        self._journal = Journal(journal_file(project))
        self._publisher = Publisher(config.mode, _server_limits(config), list(config.server.trusted_proxies))
        self._zygotes = ZygoteTree(project, environment, self._tasks)
        self._proxies = ProxyPool(
            config.server.proxy_count(),
            [self._listener],
            project,
            environment,
            self._tasks,
            self._heard,
            self._proxy_changed,
        )
        self._publisher.connect(self._proxies)
        workers = config.workers
        self._ports = PortPool(workers.port_range_start, workers.port_range_end)
        self._agent = LocalAgent(
            project,
            config.mode,
            store,
            self._rundir,
            self._ports,
            self._zygotes,
            environment,
            workers.shutdown_grace_period_ms / 1000,
            self._tasks,
            self._output,
        )
        pipeline = Pipeline(
            store,
            RUNTIMES,
            Project(project, config.mode),
            os.cpu_count() or 1,
            float(workers.build_timeout_seconds),
        )
        self._watcher = Watcher(self._changed, self._owner_of, config.file_watcher.debounce_ms / 1000, self._tasks)
        self._site = Site(project / config.pages.directory, self._watcher, self._tasks)
        self._services = Services(
            config,
            pipeline,
            self._agent,
            self._publisher,
            Retirement(self._publisher, self._agent),
            self._journal,
            Collector(store, self._journal, self._agent, self._tasks),
            self._tasks,
            learn=self._learned,
            watch=self._site.watch_also,
        )
        self._site.services = self._services

    # --- serve --------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        making = self._tasks.start(self._make_admin(), name="admin")
        await self._zygotes.start()
        self._admin = await making
        await self._admin.open()
        self._watcher.start([self._project / self._config.pages.directory])
        self._watcher.also([str(self._config_file.path)])
        self._site.take(self._found)
        self._journal.release_all_but({*self._found.pages, *(problem.page for problem in self._found.problems)})
        self._services.collector.soon()
        self._proxies.start()
        await self._publisher.acknowledged(self._publisher.touch())
        log.info(
            "server.ready",
            url=sockets.url_of(self._listener),
            pages=len(self._site.reconcilers),
            mode=self._config.mode,
        )
        if self._estate is not None:
            await self._site.settled()
            self._estate.tell()
            self._rundir.sign()
        self._manager.say("READY=1", f"MAINPID={os.getpid()}", f"STATUS=serving {sockets.url_of(self._listener)}")
        if self._manager.watchdog_seconds:
            self._tasks.start(self._pet_the_watchdog(), name="watchdog")

    async def _make_admin(self) -> AdminSocket:
        """What serves it takes 0.1 s to import: while the root zygote starts, nobody waits for that."""
        from tqserver.control.admin import Admin  # noqa: PLC0415
        from tqserver.control.admin_socket import AdminSocket  # noqa: PLC0415

        return AdminSocket(admin_socket(self._project), Admin(self._running).app)

    async def _pet_the_watchdog(self) -> None:
        """A loop that hangs says nothing, and the service manager starts the server anew."""
        while True:
            self._manager.say("WATCHDOG=1")
            await asyncio.sleep(self._manager.watchdog_seconds)

    # --- events -------------------------------------------------------------------------------------------

    def _changed(self, paths: frozenset[str]) -> None:
        if str(self._config_file.path) in paths:
            self._reconfigure()
        self._site.changed(paths)

    def _owner_of(self, path: str) -> str:
        return self._site.owner_of(path)

    def _learned(self, modules: tuple[str, ...]) -> None:
        self._zygotes.learn(modules)
        self._zygotes.keep_only([self._journal.of(name).modules for name in self._site.reconcilers])

    def _heard(self, proxy: Proxy, message: FromProxy) -> None:
        match message:
            case Counters():
                self._site.observe(self._loads.heard(proxy.name, message, clock.monotonic()), self._loads)
            case Demand(page=page):
                self._site.demand(page)
            case _:
                self._publisher.heard(proxy, message)

    def _proxy_changed(self, proxy: Proxy) -> None:
        self._loads.ended(proxy.name, [worker.number for worker in self._agent.list()])
        self._publisher.wake()

    def _running(self) -> Running:
        """Return what the admin API may see and nudge."""
        return Running(
            self._project,
            self._config,
            self._config_file.path,
            sockets.url_of(self._listener),
            self._started_at,
            self._site.found,
            self._site.reconcilers,
            self._agent,
            self._publisher,
            self._proxies,
            self._watcher,
            self._events,
            self._output,
            self._loads,
            self._site.rediscover,
        )

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A defect of ours: said in full; what the task was for goes on without it or the server ends."""
        trace = "".join(traceback.format_exception(error))
        log.critical("task.failed", task=name, error=repr(error), output=trace)

    # --- a new configuration ------------------------------------------------------------------------------

    def _asked_to_reconfigure(self) -> None:
        """SIGHUP: log files that were moved are opened anew at their next line anyway."""
        log.info("server.hangup")
        self._reconfigure()

    def _reconfigure(self) -> None:
        """Apply the file whole, or not at all."""
        try:
            config = self._config_file.read()
            if config == self._config:
                return
            changed = Change.prepare(self._project, self._config, config)
        except (ConfigError, HostError) as error:
            log.error("config.invalid", error=str(error), remedy="the running configuration is kept")
            return
        self._apply(config, changed)

    def _apply(self, config: Config, changed: Change) -> None:
        old, self._config = self._config, config
        self._configure_log()
        _warn_of(config)
        if config.workers.temp_dir != old.workers.temp_dir:
            log.warning("config.needs_restart", key="workers.temp_dir", remedy="it takes effect at the next start")
        workers = config.workers
        self._services.config = config
        self._services.pipeline.configure(Project(self._project, config.mode), workers.build_timeout_seconds)
        self._agent.configure(config.mode, workers.shutdown_grace_period_ms / 1000)
        self._ports.resize(workers.port_range_start, workers.port_range_end)
        self._watcher.set_debounce(config.file_watcher.debounce_ms / 1000)
        self._publisher.configure(config.mode, _server_limits(config), list(config.server.trusted_proxies))
        self._site.reconfigured(self._project / config.pages.directory, changed.found)
        listener = self._listener
        if changed.listener is not None:
            self._listener = changed.listener
        self._tasks.start(self._reshape_proxies(listener), name="proxies.reshape")
        log.info("config.applied", file=str(self._config_file.path))

    async def _reshape_proxies(self, before: socket.socket) -> None:
        """The new ones route before the old ones leave; the old address is given up last."""
        drain_seconds = self._config.workers.default.drain_seconds(self._config.mode)
        async with self._reshaping:
            listener = self._listener
            new, old = self._proxies.reshape(self._config.server.proxy_count(), [listener])
            if new:
                await self._publisher.acknowledged(self._publisher.touch())
            await self._proxies.dismiss(old, drain_seconds, patient=True)
            if before is not listener:
                before.close()
                log.info("server.moved", url=sockets.url_of(listener))

    # --- a new server -------------------------------------------------------------------------------------

    def _asked_to_hand_over(self) -> None:
        if not self._is_handing_over and not self._stop.is_set():
            self._is_handing_over = True
            self._tasks.start(self._hand_over(), name="hand_over")

    async def _hand_over(self) -> None:
        """Start a new server and, when it serves, end this one; if it does not come to that, go on."""
        log.info("upgrade.started")
        await self._site.stop_following()
        self._journal.save()
        environment = dict(os.environ)
        self._manager.hand_on(environment)
        try:
            successor = Successor.start(self._project, environment, self._rundir.lock, self._listener)
        except OSError as error:
            self._not_handed_over(str(error))
            return
        try:
            if await successor.is_ready():
                log.info("upgrade.done", pid=successor.child.pid)
                self._stop.set()
                return
            self._not_handed_over(f"the new server ended with status {await successor.child.wait()}")
        except asyncio.CancelledError:  # told to stop meanwhile: so is the new one
            successor.child.send(signal.SIGTERM)
            raise

    def _not_handed_over(self, reason: str) -> None:
        log.error("upgrade.failed", error=reason, remedy="its output says why; this server goes on")
        self._is_handing_over = False
        self._site.follow_again()

    # --- stop ---------------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_at_once.set()
        self._stop.set()

    async def _drain(self) -> None:
        """Finish what is in flight, then stop everything in order; a second signal skips the waiting."""
        log.info("server.stopping")
        if not self._is_handing_over:
            self._manager.say("STOPPING=1")
        self._watcher.close()
        orderly = self._tasks.start(self._stop_in_order(), name="stop")
        hurry = self._tasks.start(self._stop_at_once.wait(), name="stop.at_once")
        await asyncio.wait({orderly, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not orderly.done():
            orderly.cancel()
            await asyncio.wait({orderly})
            log.warning("server.stopped_at_once")

    async def _stop_in_order(self) -> None:
        """Proxies first, since they hold the requests; then workers; then zygotes."""
        await self._site.stop_following()
        drain_seconds = self._config.workers.default.drain_seconds(self._config.mode)
        await self._proxies.leave(drain_seconds, patient=self._is_handing_over)
        grace = self._config.workers.shutdown_grace_period_ms / 1000
        self._site.retire()
        await self._site.stop()
        for worker in self._agent.list():
            await self._agent.stop(worker, grace)

    async def _end(self) -> None:
        """Leave nothing behind, however it came to this."""
        if self._admin is not None:
            self._admin.close()
        self._watcher.close()
        self._proxies.kill()
        self._site.retire()
        for worker in self._agent.list():
            await worker.stop(0.0)
        await self._zygotes.close()
        self._journal.save()
        await self._tasks.close()
        self._listener.close()
        self._signals.remove()
        reaper().close()
        self._rundir.close()
        log.info("server.stopped")
        tap(None)


@dataclass(frozen=True, slots=True)
class Change:
    """What a new configuration needs that may be refused, taken before any of it is applied."""

    found: Discovery
    listener: socket.socket | None  # None: the address is the old one

    @classmethod
    def prepare(cls, project: Path, old: Config, new: Config) -> Change:
        """Raises :class:`HostError`: no such pages directory, the address is in use."""
        found = discover(project / new.pages.directory)
        address = (new.server.host, new.server.port)
        moves = address != (old.server.host, old.server.port)
        return cls(found, sockets.listen(*address) if moves else None)


def not_in_force(config: Config) -> list[str]:
    """Return the settings that are accepted, given, and not acted on by this version: said, never silent."""
    given = ["server.tls"] if config.server.tls is not None else []
    everyone = {"workers.default": config.workers.default}
    everyone |= {f'workers.paths."{route}"': own for route, own in config.workers.paths.items()}
    return given + [f"{where}.user" for where, settings in everyone.items() if settings.user]


def _warn_of(config: Config) -> None:
    for key in not_in_force(config):
        log.warning("config.not_in_force", key=key, remedy="this version does not act on it yet; remove it")


def _server_limits(config: Config) -> ServerLimits:
    server = config.server
    return ServerLimits(
        read_timeout_seconds=server.read_timeout_seconds or math.inf,  # 0 is no limit, as in the original
        write_timeout_seconds=server.write_timeout_seconds or math.inf,
        idle_timeout_seconds=server.idle_timeout_seconds or math.inf,
        max_header_bytes=server.max_header_bytes,
        max_body=server.max_body,
    )
