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
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store
from tqserver.control.agent import LocalAgent
from tqserver.control.discovery import Discovery, Problem, discover
from tqserver.control.events import Events
from tqserver.control.journal import Journal
from tqserver.control.output import OutputHub
from tqserver.control.plan import difference, needs_discovery, pages_concerned
from tqserver.control.proxies import Proxy, ProxyPool
from tqserver.control.publisher import Publisher
from tqserver.control.reconciler import Reconciler, Services
from tqserver.control.running import Running
from tqserver.control.traffic import Traffic
from tqserver.control.watcher import Watcher
from tqserver.control.zygotes import ZygoteTree
from tqserver.host import clock, sockets
from tqserver.host.log import DatedFile, configure, get_logger, tap
from tqserver.host.ports import PortPool
from tqserver.host.process import become_subreaper, reaper
from tqserver.host.rundir import INSTANCE_VARIABLE, RunDirectory, admin_socket, journal_file, store_directory
from tqserver.host.signals import SignalHandlers
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config, WorkerSettings
from tqserver.model.errors import HostError, PageError, RouteConflict
from tqserver.model.pages import Page, route_of
from tqserver.model.routing import Pattern
from tqserver.wire.messages import Counters, Failure, FromProxy, RouteEntry, ServerLimits

if TYPE_CHECKING:
    from tqserver.control.admin_socket import AdminSocket

NOT_IN_FORCE = (
    "max_requests",
    "concurrency",
    "idle_stop_seconds",
    "memory_limit",
    "health_interval_seconds",
    "user",
)
log = get_logger("supervisor")


class Supervisor:
    """One server in one project directory.

    Raises :class:`HostError` from :meth:`run` if it cannot start: a port in use, another server, no pages.
    """

    def __init__(self, project: Path, config: Config, *, config_file: Path, quiet: bool) -> None:
        self._started_at = clock.wall()
        self._project = project
        self._config_file = config_file
        self._config = config
        self._quiet = quiet
        self._tasks = TaskOwner(self._task_failed)
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._reconcilers: dict[str, Reconciler] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._read_by: dict[str, set[str]] = defaultdict(set)
        self._reported: set[tuple[str, str]] = set()
        self._events, self._output, self._traffic = Events(), OutputHub(), Traffic()
        self._admin: AdminSocket | None = None
        self._broken_rows: set[str] = set()  # pages that were never followed, whose row says why

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
        file = config.server.log_file
        configure(quiet=self._quiet, file=DatedFile(project / file, {}) if file else None)
        tap(self._events.take)
        for key in not_in_force(config):
            log.warning("config.not_in_force", key=key, remedy="this version does not act on it yet; remove it")
        self._pages_directory = project / config.pages.directory
        found = discover(self._pages_directory)
        self._listener: socket.socket = sockets.listen(config.server.host, config.server.port)
        try:
            self._rundir = RunDirectory(project)
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
                signal.SIGHUP: self._terminal_or_logs_are_gone,
            }
        )
        self._signals.install()
        self._build_parts()
        self._found = found

    def _build_parts(self) -> None:
        config, project = self._config, self._project
        environment = {**os.environ, INSTANCE_VARIABLE: self._rundir.instance}
        store = Store(store_directory(project, config.workers.temp_dir))
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
            self._proxies_changed,
        )
        self._publisher.connect(self._proxies)
        workers = config.workers
        agent = LocalAgent(
            project,
            config.mode,
            store,
            self._rundir,
            PortPool(workers.port_range_start, workers.port_range_end),
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
        self._services = Services(
            config,
            pipeline,
            agent,
            self._publisher,
            self._journal,
            self._tasks,
            learn=self._learned,
            watch=self._watch_also,
        )
        self._watcher = Watcher(self._changed, self._owner_of, config.file_watcher.debounce_ms / 1000, self._tasks)

    # --- serve --------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        making = self._tasks.start(self._make_admin(), name="admin")
        await self._zygotes.start()
        self._admin = await making
        await self._admin.open()
        self._watcher.start([self._pages_directory])
        self._take(self._found)
        await self._proxies.start()
        version = self._publisher.touch()
        await self._publisher.acknowledged(version)
        log.info(
            "server.ready", url=sockets.url_of(self._listener), pages=len(self._reconcilers), mode=self._config.mode
        )

    async def _make_admin(self) -> AdminSocket:
        """What serves it takes 0.1 s to import: while the root zygote starts, nobody waits for that."""
        from tqserver.control.admin import Admin  # noqa: PLC0415
        from tqserver.control.admin_socket import AdminSocket  # noqa: PLC0415

        return AdminSocket(admin_socket(self._project), Admin(self._running).app)

    def _take(self, found: Discovery) -> None:
        """Make what a scan found the pages that are followed."""
        self._found = found
        broken = {problem.page for problem in found.problems}
        for problem in found.problems:
            self._report(problem)
        known = {name: reconciler.page for name, reconciler in self._reconcilers.items()}
        wanted = {name: page for name, page in found.pages.items() if name not in broken}
        change = difference(known, wanted)
        for name in self._broken_rows - broken:
            self._publisher.remove_row(name)
        self._broken_rows &= broken
        for name in change.vanished:
            if name not in broken:
                self._reconcilers[name].depart()
                self._tasks.start(self._leave(name), name=f"leave.{name}")
        for page in change.altered:
            self._reconcilers[page.name].notify(page)
        for page in change.appeared:
            self._follow(page)

    def _report(self, problem: Problem) -> None:
        key = (problem.page, str(problem.error))
        if key in self._reported:
            return
        self._reported.add(key)
        error = problem.error
        event = "route.conflict" if isinstance(error, RouteConflict) else "page.failed"
        reconciler = self._reconcilers.get(problem.page)
        if reconciler is not None and not isinstance(error, RouteConflict):
            reconciler.report(error)
            return
        log.error(
            event,
            page=problem.page,
            error=error.message,
            remedy=error.remedy,
            where=str(error.location or ""),
        )
        if not isinstance(error, RouteConflict):
            self._show_broken(problem)

    def _show_broken(self, problem: Problem) -> None:
        """Let the page's URL say what is wrong, if it is one and no other page has it."""
        try:
            shape = Pattern.parse(route_of(problem.page)).shape
        except PageError:
            return
        if any(Pattern.parse(page.route).shape == shape for page in self._found.pages.values()):
            return
        error = problem.error
        failure = Failure(error.message, error.remedy, str(error.location or ""), error.output)
        self._broken_rows.add(problem.page)
        self._publisher.set_row(RouteEntry(route_of(problem.page), problem.page, 0, failure=failure))

    def _follow(self, page: Page) -> None:
        log.info("page.found", page=page.name, route=page.route, runtime=page.runtime)
        reconciler = Reconciler(page, self._services)
        self._reconcilers[page.name] = reconciler
        self._following[page.name] = self._tasks.start(reconciler.run(), name=f"page.{page.name}")

    async def _leave(self, name: str) -> None:
        reconciler = self._reconcilers.pop(name)
        task = self._following.pop(name)
        task.cancel()
        await asyncio.wait({task})
        log.info("page.gone", page=name)
        await reconciler.leave()

    # --- events -------------------------------------------------------------------------------------------

    def _changed(self, paths: frozenset[str]) -> None:
        pages = [reconciler.page for reconciler in self._reconcilers.values()]
        if any(needs_discovery(path, pages, exists=Path(path).is_file()) for path in paths):
            self._rediscover()
        pages = [reconciler.page for reconciler in self._reconcilers.values()]
        for path in paths:
            for name in pages_concerned(path, pages, self._read_by):
                if name in self._reconcilers:
                    self._reconcilers[name].notify()

    def _rediscover(self) -> None:
        try:
            found = discover(self._pages_directory)
        except HostError as error:
            log.error("pages.missing", error=error.message, remedy=error.remedy)
            return
        self._reported &= {(problem.page, str(problem.error)) for problem in found.problems}
        self._take(found)

    def _owner_of(self, path: str) -> str:
        """Group paths by page: what is being written holds back only what belongs with it."""
        pages = [reconciler.page for reconciler in self._reconcilers.values()]
        return next(iter(sorted(pages_concerned(path, pages, self._read_by))), "")

    def _watch_also(self, page: str, files: frozenset[str]) -> None:
        for file in files:
            self._read_by[file].add(page)
        self._watcher.also(files)

    def _learned(self, modules: tuple[str, ...]) -> None:
        self._zygotes.learn(modules)
        self._zygotes.keep_only([self._journal.of(name).modules for name in self._reconcilers])

    def _heard(self, proxy: Proxy, message: FromProxy) -> None:
        if isinstance(message, Counters) and proxy.child is not None:
            self._traffic.heard(proxy.child.pid, message, clock.monotonic())
        self._publisher.heard(proxy, message)

    def _proxies_changed(self) -> None:
        self._traffic.only({proxy.child.pid for proxy in self._proxies.alive if proxy.child is not None})
        self._publisher.wake()

    def _running(self) -> Running:
        """Return what the admin API may see and nudge."""
        return Running(
            self._project,
            self._config,
            self._config_file,
            sockets.url_of(self._listener),
            self._started_at,
            self._found,
            self._reconcilers,
            self._services.agent,
            self._publisher,
            self._proxies,
            self._watcher,
            self._events,
            self._output,
            self._traffic,
            self._rediscover,
        )

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A defect of ours: said in full; what the task was for goes on without it or the server ends."""
        trace = "".join(traceback.format_exception(error))
        log.critical("task.failed", task=name, error=repr(error), output=trace)

    # --- stop ---------------------------------------------------------------------------------------------

    def _terminal_or_logs_are_gone(self) -> None:
        """SIGHUP ends nothing: log files that were moved are opened anew at their next line anyway."""
        log.info("server.hangup")

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_at_once.set()
        self._stop.set()

    async def _drain(self) -> None:
        """Finish what is in flight, then stop everything in order; a second signal skips the waiting."""
        log.info("server.stopping")
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
        for task in self._following.values():
            task.cancel()
        if self._following:
            await asyncio.wait(self._following.values())
        await self._proxies.leave(self._config.workers.default.drain_seconds(self._config.mode))
        grace = self._config.workers.shutdown_grace_period_ms / 1000
        stops = [
            self._tasks.start(self._stop_page(reconciler), name="stop.page")
            for reconciler in self._reconcilers.values()
        ]
        if stops:
            await asyncio.wait(stops)
        agent = self._services.agent
        for worker in agent.list():
            await agent.stop(worker, grace)

    @staticmethod
    async def _stop_page(reconciler: Reconciler) -> None:
        if reconciler.live is not None:
            reconciler.live.retire()
            await reconciler.live.stop()

    async def _end(self) -> None:
        """Leave nothing behind, however it came to this."""
        if self._admin is not None:
            self._admin.close()
        self._watcher.close()
        self._proxies.kill()
        for reconciler in self._reconcilers.values():
            if reconciler.live is not None:
                reconciler.live.retire()
        for worker in self._services.agent.list():
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


def not_in_force(config: Config) -> list[str]:
    """Return the settings that are accepted, given, and not acted on by this version: said, never silent."""
    given = ["server.tls"] if config.server.tls is not None else []
    plain = WorkerSettings()
    everyone = {"workers.default": config.workers.default}
    everyone |= {f'workers.paths."{route}"': own for route, own in config.workers.paths.items()}
    for where, settings in everyone.items():
        given += [f"{where}.{key}" for key in NOT_IN_FORCE if getattr(settings, key) != getattr(plain, key)]
        given += [f"{where}.min_workers"] if settings.min_workers == 0 else []
        given += [f"{where}.max_workers"] if settings.max_workers > max(1, settings.min_workers) else []
    return given


def _server_limits(config: Config) -> ServerLimits:
    server = config.server
    return ServerLimits(
        read_timeout_seconds=server.read_timeout_seconds or math.inf,  # 0 is no limit, as in the original
        write_timeout_seconds=server.write_timeout_seconds or math.inf,
        idle_timeout_seconds=server.idle_timeout_seconds or math.inf,
        max_header_bytes=server.max_header_bytes,
        max_body=server.max_body,
    )
