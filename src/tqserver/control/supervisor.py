"""The server's life: from the lock to the last worker.

``run`` reads as the life does: prepare, serve, wait, stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqserver.control.certificates import Certificates
from tqserver.control.config_file import ConfigFile
from tqserver.control.discovery import discover
from tqserver.control.entrance import Address, Entrance, addresses
from tqserver.control.events import Events
from tqserver.control.otlp import TraceExport
from tqserver.control.parts import Change, Parts
from tqserver.control.running import Running
from tqserver.control.upgrade import Estate, Successor
from tqserver.host import clock, descent, sockets
from tqserver.host.limits import raise_open_files
from tqserver.host.log import DatedFile, configure, get_logger, tap
from tqserver.host.process import become_subreaper, reaper
from tqserver.host.rundir import RunDirectory, admin_socket
from tqserver.host.signals import SignalHandlers
from tqserver.host.systemd import ServiceManager
from tqserver.host.tasks import TaskOwner
from tqserver.model.config import Config
from tqserver.model.errors import ConfigError, HostError

if TYPE_CHECKING:
    from tqserver.control.admin_socket import AdminSocket
    from tqserver.control.metrics_port import MetricsPort

SETTLING_SECONDS = 5.0  # for so long a page that builds holds back the word that all is ready
log = get_logger("supervisor")


class Supervisor:
    """One server in one project directory.

    Raises :class:`HostError` from :meth:`run` if it cannot start: a port in use, another server, no pages.
    """

    def __init__(self, project: Path, config_file: ConfigFile, *, quiet: bool) -> None:
        self._started_at = clock.wall()
        self._project = project
        self._config_file = config_file
        self._config = config_file.read_to_serve()
        self._quiet = quiet
        self._tasks = TaskOwner(self._task_failed)
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._is_handing_over = False
        self._manager = ServiceManager(os.environ)
        self._estate = Estate.in_environment(os.environ)
        self._events = Events()
        self._traces: TraceExport | None = None
        self._admin: AdminSocket | None = None
        self._metrics_port: MetricsPort | None = None

    async def run(self) -> None:
        """Serve until a signal says stop."""
        asyncio.get_running_loop().set_exception_handler(_callback_failed)
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
        tap(self._happened)
        self._traces = TraceExport.begin(os.environ, self._tasks)
        found = discover(project / config.pages.directory)
        self._certificates = Certificates(project, self._config_file.where, self._tasks)
        self._certificates.use(config.server.tls, self._certificates.read(config.server.tls))
        with ExitStack() as taken:
            # The lock first: a second server here is told of the first one, and not only that its port is taken.
            self._rundir = RunDirectory(project, self._estate.lock if self._estate is not None else None)
            taken.callback(self._rundir.close)
            entrance = self._take_entrance()
            taken.callback(entrance.close)
            self._metrics_listener = self._take_metrics_listener()
            if self._metrics_listener is not None:
                taken.enter_context(self._metrics_listener)
            taken.pop_all()
        if self._rundir.killed:
            log.warning("leftovers.killed", pids=self._rundir.killed, reason="the last server was killed")
        raise_open_files()
        self._not_ours = {process.pid for process in descent.below(os.getpid())}  # of the shell that exec'd us
        become_subreaper()
        reaper().install()
        self._signals = SignalHandlers(
            {
                signal.SIGTERM: self._asked_to_stop,
                signal.SIGINT: self._asked_to_stop,
                signal.SIGHUP: self._asked_to_reconfigure,
                signal.SIGUSR1: self._asked_for_new_logs,
                signal.SIGUSR2: self._asked_to_hand_over,
            }
        )
        self._signals.install()
        self._found = found
        self._parts = Parts(project, config, self._rundir, entrance, self._certificates, self._tasks, self._changed)

    def _happened(self, event: Mapping[str, Any], line: str) -> None:
        """The log has something new."""
        self._events.take(event, line)
        if self._traces is not None:
            self._traces.take(event)

    def _take_entrance(self) -> Entrance:
        """Inherited from the server before this one, or from the service manager, or our own.

        An inherited socket is where clients are served, whatever the configuration says, unless its port is that
        of the redirect.
        """
        given = self._manager.listeners if self._estate is None else self._estate.entrance
        main_at, redirect_at = addresses(self._config.server)
        at_hand: dict[Address, socket.socket] = {}
        for listener in given:
            port = listener.getsockname()[1]
            address = redirect_at if redirect_at is not None and port == redirect_at[1] else main_at
            if address not in at_hand:
                at_hand[address] = listener
                continue
            log.warning("listener.unused", url=sockets.url_of(listener), remedy="pass one socket for each port")
            listener.close()
        return Entrance.open(self._config.server, at_hand, self._config_file.where)

    def _take_metrics_listener(self) -> socket.socket | None:
        """Inherited from the server before this one, if it is what ``server.metrics`` says, or our own, or none."""
        address = self._config.server.metrics
        if self._estate is not None and (inherited := self._estate.metrics) is not None:
            if address is not None and address.port in (0, inherited.getsockname()[1]):
                return inherited
            inherited.close()
        return self._listen_for_metrics(self._config)

    def _listen_for_metrics(self, config: Config) -> socket.socket | None:
        address = config.server.metrics
        if address is None:
            return None
        try:
            key = "server.metrics"
            return sockets.listen(address.host, address.port, host_from=key, port_from=key)
        except HostError as error:
            error.location = self._config_file.where("server", "metrics")
            raise

    def _configure_log(self) -> None:
        file = self._config.server.log_file
        configure(quiet=self._quiet, file=DatedFile(self._project / file, {}) if file else None)

    # --- serve --------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        making = self._tasks.start(self._make_admin(), name="admin")
        await self._parts.zygotes.start()
        self._admin = await making
        await self._admin.open()
        await self._parts.start(self._found, self._config, [str(self._config_file.path)])
        log.info(
            "server.ready",
            url=self._parts.entrance.url,
            pages=len(self._parts.site.reconcilers),
            mode=self._config.mode,
        )
        if self._estate is not None:
            await self._parts.site.settled()
            self._estate.tell()
            self._rundir.sign()
        assert self._metrics_port is not None
        await self._metrics_port.listen(self._metrics_listener)
        self._manager.say("READY=1", f"MAINPID={os.getpid()}", f"STATUS=serving {self._parts.entrance.url}")
        self._tasks.start(self._say_what_serves(), name="serving")
        if self._manager.watchdog_seconds:
            self._tasks.start(self._pet_the_watchdog(), name="watchdog")

    async def _say_what_serves(self) -> None:
        """For who has started it: when the pages answer, or what keeps one from it."""
        site = self._parts.site
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLING_SECONDS):
                await site.settled()
        if self._stop.is_set():
            return
        log.info(
            "server.serving",
            url=self._parts.entrance.url,
            mode=self._config.mode,
            live=sum(reconciler.live is not None for reconciler in site.reconcilers.values()),
            starting=site.starting(),
            broken=site.broken(),
        )

    async def _make_admin(self) -> AdminSocket:
        """What serves it takes 0.1 s to import: while the root zygote starts, nobody waits for that."""
        from tqserver.control.admin import Admin  # noqa: PLC0415
        from tqserver.control.admin_socket import AdminSocket  # noqa: PLC0415
        from tqserver.control.metrics_port import Metrics, MetricsPort  # noqa: PLC0415

        metrics = Metrics(self._running)
        self._metrics_port = MetricsPort(metrics)
        return AdminSocket(admin_socket(self._project), Admin(self._running, metrics).app)

    async def _pet_the_watchdog(self) -> None:
        """A loop that hangs says nothing, and the service manager starts the server anew."""
        while True:
            self._manager.say("WATCHDOG=1")
            await asyncio.sleep(self._manager.watchdog_seconds)

    # --- asked --------------------------------------------------------------------------------------------

    def _running(self) -> Running:
        """Return what the admin API may see and nudge."""
        parts = self._parts
        return Running(
            self._project,
            self._config,
            self._config_file.shown,
            parts.entrance.url,
            self._started_at,
            parts.site,
            parts.agent,
            parts.publisher,
            parts.proxies,
            parts.watcher,
            self._events,
            parts.output,
            parts.loads,
            parts.journal,
        )

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A defect of ours: said in full; what the task was for goes on without it or the server ends."""
        trace = "".join(traceback.format_exception(error))
        log.critical("task.failed", task=name, error=repr(error), output=trace)

    # --- a new configuration ------------------------------------------------------------------------------

    def _changed(self, paths: frozenset[str]) -> None:
        if str(self._config_file.path) in paths:
            self._reconfigure()
        self._certificates.changed(paths)

    def _asked_to_reconfigure(self) -> None:
        """SIGHUP: log files that were moved are opened anew at their next line anyway."""
        log.info("server.hangup")
        self._reconfigure()
        self._certificates.look()

    def _asked_for_new_logs(self) -> None:
        """SIGUSR1, which logrotate sends where nginx is the custom: this line opens the server's, theirs the others."""
        log.info("logs.reopened")

    def _reconfigure(self) -> None:
        """Apply the file whole, or not at all."""
        try:
            config = self._config_file.read_to_serve()
            if config == self._config:
                log.info("config.unchanged", file=str(self._config_file.path))
                return
            change, metrics = self._prepare_change(config)
        except (ConfigError, HostError) as error:
            log.error("config.invalid", error=str(error), remedy="the running configuration is kept")
            return
        if config.server.metrics != self._config.server.metrics:
            self._move_metrics(metrics)
        self._config = config
        self._configure_log()
        self._parts.apply(config, change)
        log.info("config.applied", file=str(self._config_file.path))

    def _prepare_change(self, config: Config) -> tuple[Change, socket.socket | None]:
        """Take what may be refused. Raises :class:`HostError`, and then nothing is taken."""
        moves = config.server.metrics != self._config.server.metrics
        metrics = self._listen_for_metrics(config) if moves else None
        try:
            old = self._parts.entrance, self._config
            return Change.prepare(self._project, old, config, self._certificates, self._config_file.where), metrics
        except HostError:
            if metrics is not None:
                metrics.close()
            raise

    def _move_metrics(self, listener: socket.socket | None) -> None:
        left, self._metrics_listener = self._metrics_listener, listener
        if self._metrics_port is not None and left is self._metrics_port.listener:
            self._tasks.start(self._metrics_port.listen(listener), name="metrics")
        elif left is not None:  # nobody listens to it yet
            left.close()

    # --- a new server -------------------------------------------------------------------------------------

    def _asked_to_hand_over(self) -> None:
        if os.getpid() == 1:  # its end is that of all in the container, the new server included
            remedy = "start a new container; this server goes on"
            log.error("upgrade.failed", error="this server is process 1 of a container", remedy=remedy)
        elif not self._is_handing_over and not self._stop.is_set():
            self._is_handing_over = True
            self._tasks.start(self._hand_over(), name="hand_over")

    async def _hand_over(self) -> None:
        """Start a new server and, when it serves, end this one; if it does not come to that, go on."""
        log.info("upgrade.started")
        await self._parts.site.stop_following()
        self._parts.journal.save()
        environment = dict(os.environ)
        self._manager.hand_on(environment)
        try:
            successor = Successor.start(
                self._project, environment, self._rundir.lock, self._parts.entrance.sockets, self._metrics_listener
            )
        except OSError as error:
            self._not_handed_over(str(error))
            return
        self._not_ours.add(successor.child.pid)
        try:
            if await successor.is_ready():
                self._manager.say(f"MAINPID={successor.child.pid}")  # the main process alone is believed
                log.info("upgrade.done", pid=successor.child.pid)
                if self._metrics_port is not None:
                    self._metrics_port.close()
                self._stop.set()
                return
            self._not_handed_over(f"the new server ended with status {await successor.child.wait()}")
        except asyncio.CancelledError:  # told to stop meanwhile: so is the new one
            successor.child.send(signal.SIGTERM)
            raise

    def _not_handed_over(self, reason: str) -> None:
        log.error("upgrade.failed", error=reason, remedy="its output says why; this server goes on")
        self._is_handing_over = False
        self._parts.site.follow_again()

    # --- stop ---------------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_at_once.set()
        self._stop.set()

    async def _drain(self) -> None:
        """Finish what is in flight, then stop everything in order; a second signal skips the waiting."""
        deadline = self._config.workers.default.drain_seconds(self._config.mode)
        log.info("server.stopping", in_flight=self._parts.loads.in_flight, deadline_seconds=deadline)
        if not self._is_handing_over:
            self._manager.say("STOPPING=1")
        self._parts.watcher.close()
        orderly = self._tasks.start(self._parts.stop(self._config, patient=self._is_handing_over), name="stop")
        hurry = self._tasks.start(self._stop_at_once.wait(), name="stop.at_once")
        await asyncio.wait({orderly, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not orderly.done():
            orderly.cancel()
            await asyncio.wait({orderly})
            log.warning("server.stopped_at_once")

    async def _end(self) -> None:
        """Leave nothing behind, however it came to this."""
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._admin is not None:
            self._admin.close()
        await self._parts.end()
        if self._traces is not None:
            await self._traces.close()
        if killed := self._rundir.kill_leftovers() + descent.kill_below(os.getpid(), but_not=self._not_ours):
            log.warning("leftovers.killed", pids=killed, reason="workers started them, and did not end them")
        await self._tasks.close()
        self._parts.entrance.close()
        self._signals.remove()
        reaper().close()
        self._rundir.close()
        log.info("server.stopped")
        tap(None)


def _callback_failed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A defect of ours in a callback: in the log with its traceback, and nowhere else."""
    log.critical("callback.failed", message=context.get("message"), exc_info=context.get("exception"))
