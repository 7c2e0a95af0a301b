"""The program: listen when there is something to route by, tick, and leave without losing a connection.

::

    python -m tqserver.proxy --name proxy-0 --link FD (--listen FD | --listen-tls FD) [--redirect FD]

One thread, one event loop. The listening sockets are control's and shared with the other proxies: this one
stops accepting from them, and never shuts them down.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import uvloop

from tqserver.host.limits import raise_open_files
from tqserver.host.log import configure_json, get_logger
from tqserver.host.process import set_title
from tqserver.host.signals import SignalHandlers
from tqserver.host.sockets import BACKLOG
from tqserver.host.tasks import TaskOwner
from tqserver.host.tls import server_context
from tqserver.proxy.clients import Clients, FullNotice
from tqserver.proxy.connections import Connections
from tqserver.proxy.counters import Counts
from tqserver.proxy.dispatch import Dispatcher
from tqserver.proxy.downstream import Downstream
from tqserver.proxy.handshakes import Handshakes
from tqserver.proxy.home import Home
from tqserver.proxy.link import Link
from tqserver.proxy.table import Table
from tqserver.proxy.ticker import Ticker
from tqserver.wire.messages import Certificate, Cut, Hello, Leave, Ping, Pong, Snapshot, ToProxy

TERM_DEADLINE_SECONDS = 30.0  # when a signal and not control says to leave
TICKS_PER_COUNT = 2
_KEEPALIVE_SECONDS = 60
HANDSHAKES_SHARE = 8  # one of so many descriptors may be that of a handshake
EXIT_LEFT = 0
EXIT_ORPHANED = 1  # control is gone

log = get_logger("proxy")


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listening sockets: that of TLS, if any, and the plain ones, each with the port that it redirects to or 0."""

    tls: socket.socket | None
    plain: dict[socket.socket, int]

    @classmethod
    def of(cls, plain: int | None, tls: int | None, redirect: int | None) -> Listeners:
        """Take over these descriptors."""
        main, secure, redirecting = (_listening(fileno) for fileno in (plain, tls, redirect))
        https_port = secure.getsockname()[1] if secure is not None else 0
        return cls(secure, {sock: port for sock, port in ((main, 0), (redirecting, https_port)) if sock is not None})


def _listening(fileno: int | None) -> socket.socket | None:
    if fileno is None:
        return None
    listener = socket.socket(fileno=fileno)
    listener.setblocking(False)
    return listener


class Server:
    """One proxy, from start to exit."""

    def __init__(self, name: str, listeners: Listeners, open_files: int, stdout: int) -> None:
        self._name = name
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._tasks = TaskOwner(self._on_task_error)
        self._ticker = Ticker(self._tick)
        self._link = Link(self._on_message, self._on_link_lost)
        self._table = Table()
        self._counts = Counts(self._table)
        self._connections = Connections(self._tasks, self._ticker)
        notice = FullNotice(self._ticker, open_files)
        self._dispatcher = Dispatcher(self._table, self._connections, self._link.send, notice)
        clients = Clients(self._table, notice, open_files, self._stop_accepting, self._listen)
        self._home = Home(self._table, self._dispatcher, self._ticker, clients, stdout)
        self._handshakes = Handshakes(
            lambda: Downstream(self._home),
            lambda: self._table.limits.read_timeout_seconds,
            max(open_files // HANDSHAKES_SHARE, 1),
            self._tasks,
        )
        self._is_listening = False
        self._ticks = 0
        self._leave_by = 0.0

    async def run(self, link: int) -> int:
        """Serve until told to leave, or control is gone; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_on_loop_error)
        self._exit: asyncio.Future[int] = loop.create_future()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is control's to act on
        SignalHandlers({signal.SIGTERM: lambda: self._leave(TERM_DEADLINE_SECONDS)}).install()
        self._ticker.start()
        await self._link.attach(link)
        self._link.send(Hello(pid=os.getpid()))
        gc.collect()
        gc.freeze()  # what start-up made is never garbage
        return await self._exit

    def _on_message(self, message: ToProxy) -> None:
        match message:
            case Snapshot():
                self._home.log_access(message.access_log)
                self._dispatcher.apply(message)
                self._listen()
            case Certificate():
                self._handshakes.context = server_context(message)
            case Cut(worker=worker):
                self._dispatcher.cut(worker)
            case Ping():
                self._link.send(Pong())
            case Leave(deadline_seconds=seconds, patient=patient):
                self._leave(seconds, patient=patient)

    def _listen(self) -> None:
        """There is a table, and room: accept, if not yet. (The next snapshot can come before a server is created.)"""
        if self._is_listening or self._home.is_leaving or self._home.clients.must_wait:
            return
        self._is_listening = True
        listeners = self._listeners
        if listeners.tls is not None:
            _watch_peers(listeners.tls)
            self._handshakes.accept_from(listeners.tls)
        for listener, redirects_to in listeners.plain.items():
            self._tasks.start(self._accept_from(listener, redirects_to), name="listen")

    async def _accept_from(self, listener: socket.socket, redirects_to: int) -> None:
        _watch_peers(listener)
        # uvloop calls listen(2) again, and would shrink the queue to its default
        server = await asyncio.get_running_loop().create_server(
            lambda: Downstream(self._home, redirects_to), sock=listener.dup(), backlog=BACKLOG
        )
        self._servers.append(server)
        if not self._is_listening:  # no longer
            server.close()

    def _stop_accepting(self) -> None:
        """Leave what comes to the kernel's queue, and to the other proxies."""
        self._is_listening = False
        self._handshakes.stop_accepting()
        for server in self._servers:
            server.close()
        self._servers.clear()

    # --- time -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._home.tick()
        self._dispatcher.tick()
        self._ticks += 1
        if self._ticks % TICKS_PER_COUNT == 0:
            self._send_counters()
        if self._home.is_leaving:
            self._look_whether_left()

    def _send_counters(self) -> None:
        if (counters := self._counts.news(len(self._home.clients))) is not None:
            self._link.send(counters)

    # --- the end --------------------------------------------------------------------------------------------

    def _leave(self, deadline_seconds: float, *, patient: bool = False) -> None:
        """Accept what the kernel has queued, finish what is in flight, exit."""
        deadline = self._ticker.now + deadline_seconds
        if self._home.is_leaving:
            self._leave_by = min(self._leave_by, deadline)
            return
        self._leave_by = deadline
        self._home.is_leaving = True
        log.info("proxy.leaving", name=self._name, connections=len(self._home.clients))
        self._tasks.start(self._stop_listening(patient), name="leave")

    async def _stop_listening(self, patient: bool) -> None:
        self._stop_accepting()
        loop = asyncio.get_running_loop()
        listeners = self._listeners
        if listeners.tls is not None:
            for connection in _queued(listeners.tls):
                self._handshakes.begin(connection)
        for listener, redirects_to in listeners.plain.items():
            for connection in _queued(listener):
                await loop.connect_accepted_socket(partial(Downstream, self._home, redirects_to), connection)
        # What idle connections have sent by now is read first: one turn of the loop, then they are closed.
        loop.call_later(0, self._close_idle, patient)

    def _close_idle(self, patient: bool) -> None:
        for client in self._home.clients:
            client.leave(patient=patient)
        self._look_whether_left()

    def _look_whether_left(self) -> None:
        if (self._home.clients or self._handshakes) and self._ticker.now < self._leave_by:
            return
        for client in self._home.clients:
            client.give_up()
        self._send_counters()
        self._finish(EXIT_LEFT)

    def _on_link_lost(self) -> None:
        """Nobody would tell when workers go: close all at once, so that another can take over."""
        log.error("proxy.orphaned", name=self._name, remedy="control is gone")
        self._finish(EXIT_ORPHANED)

    def _finish(self, code: int) -> None:
        self._home.log_access(None)
        if not self._exit.done():
            self._exit.set_result(code)

    def _on_task_error(self, name: str, error: BaseException) -> None:
        log.error("proxy.task_failed", task=name, exc_info=error)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A defect of ours in a callback: in the log with its traceback."""
    log.error("proxy.callback_failed", message=context.get("message"), exc_info=context.get("exception"))


def _watch_peers(listener: socket.socket) -> None:
    """Have the kernel find clients that vanished; connections inherit it from the socket they came by."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)


def _queued(listener: socket.socket) -> list[socket.socket]:
    """Accept what waits in the kernel's queue now: it would be reset if nobody did (pitfall 3)."""
    connections: list[socket.socket] = []
    while len(connections) < BACKLOG:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody waits, or no descriptor is left
            break
        connection.setblocking(False)
        connections.append(connection)
    return connections


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proxy; return its exit code."""
    parser = argparse.ArgumentParser(prog="tqserver.proxy")
    parser.add_argument("--name", required=True)
    parser.add_argument("--link", type=int, required=True, help="descriptor of the link to control")
    parser.add_argument("--listen", type=int, help="a listening descriptor")
    parser.add_argument("--listen-tls", type=int, help="the same, for TLS")
    parser.add_argument("--redirect", type=int, help="the same, for those who are sent to TLS")
    parser.add_argument("--stdout", type=int, default=1, help="a descriptor: where access is logged if not to a file")
    given = parser.parse_args(arguments)
    configure_json()
    set_title(f"tqserver: {given.name}")
    listeners = Listeners.of(given.listen, given.listen_tls, given.redirect)
    server = Server(given.name, listeners, raise_open_files(), given.stdout)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(server.run(given.link))
