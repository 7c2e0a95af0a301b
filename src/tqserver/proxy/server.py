"""The proxy program: ``python -m tqserver.proxy --name N --link FD --listen FD...``.

It accepts from sockets that control owns, so that connections wait in the kernel when it dies or leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import itertools
import os
import secrets
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import uvloop

from tqserver.host.log import configure_json, get_logger
from tqserver.host.process import set_title
from tqserver.host.tasks import TaskOwner
from tqserver.proxy.downstream import Downstream
from tqserver.proxy.link import Link
from tqserver.proxy.table import Table
from tqserver.wire.messages import (
    Acknowledged,
    Cut,
    Demand,
    Drained,
    Failure,
    Hello,
    Leave,
    Refused,
    ServerLimits,
    Snapshot,
    ToProxy,
)

TICK_SECONDS = 1.0
COLLECT_AFTER_OBJECTS = 50_000
log = get_logger("proxy")


class ProxyServer:
    """What all connections of this process share."""

    def __init__(self, listeners: list[socket.socket], link: socket.socket) -> None:
        self.table = Table(self._drained)
        self.limits = ServerLimits()
        self.clients: set[Downstream] = set()
        self.waiting: set[Downstream] = set()
        self.failures = 0
        self.is_leaving = False
        self._listeners = listeners
        self._link_socket = link
        self._link = Link(self._on_message, self._control_is_gone)
        self._servers: list[asyncio.Server] = []
        self._tasks = TaskOwner(self._task_failed)
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._ended = asyncio.Event()
        self._numbers = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._demanded: set[str] = set()

    async def run(self) -> None:
        """Serve until told to leave, or until control is gone."""
        await self._link.channel.attach(self._link_socket)
        self._link.say(Hello(os.getpid()))
        self._loop.add_signal_handler(signal.SIGTERM, self._leave, 30.0)
        self._loop.call_later(TICK_SECONDS, self._tick)
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER_OBJECTS)
        await self._ended.wait()
        await self._tasks.close()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task of a connection."""
        self._tasks.start(work, name="connect")

    def new_request_id(self) -> bytes:
        """Return an id that no other request has."""
        return b"%b-%x" % (self._id_prefix.encode(), next(self._numbers))

    def is_trusted(self, address: str) -> bool:
        """Tell whether a peer's forwarding fields are believed."""
        if not self._networks:
            return False
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._networks)

    # --- control ------------------------------------------------------------------------------------------

    def _on_message(self, message: ToProxy) -> None:
        match message:
            case Snapshot():
                self._swap(message)
            case Cut(worker=worker):
                for client in [c for c in self.clients if c.worker_number == worker]:
                    client.cut()
            case Leave(deadline_seconds=seconds):
                self._leave(seconds)

    def _swap(self, snapshot: Snapshot) -> None:
        self.limits = snapshot.limits
        self._networks = [ipaddress.ip_network(text, strict=False) for text in snapshot.trusted_proxies]
        self.table.swap(snapshot)
        self._link.say(Acknowledged(snapshot.version))
        self._demanded.clear()
        for client in list(self.waiting):
            client.dispatch()
        if self._listeners and not self.is_leaving:
            self.start(self._accept())

    async def _accept(self) -> None:
        """Begin to accept; only now, since without a snapshot every request would be refused."""
        listeners, self._listeners = self._listeners, []  # once: the next snapshot may come meanwhile
        for listener in listeners:
            server = await self._loop.create_server(lambda: Downstream(self), sock=listener, backlog=4096)
            self._servers.append(server)

    def _drained(self, worker: int) -> None:
        self._link.say(Drained(worker))

    def demand(self, page: str) -> None:
        """A request waits for a page without a worker."""
        if page not in self._demanded:
            self._demanded.add(page)
            self._link.say(Demand(page))

    def shown(self, failure: Failure) -> str:
        """Return what a client may know of a page's failure: in prod nothing but that there is one."""
        return failure.message if self.table.snapshot.mode == "dev" else "this page is not available at the moment"

    def refused(self, worker: int, reason: str) -> None:
        """A worker failed a connection."""
        self._link.say(Refused(worker, reason))

    def _control_is_gone(self) -> None:
        for client in list(self.clients):
            client.abort()
        self._ended.set()

    # --- leaving ------------------------------------------------------------------------------------------

    def _leave(self, deadline_seconds: float) -> None:
        """Stop accepting, finish what is in flight, end."""
        if self.is_leaving:
            return
        self.is_leaving = True
        self.start(self._leave_in_order(deadline_seconds))

    async def _leave_in_order(self, deadline_seconds: float) -> None:
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        for client in list(self.clients):
            client.leave()
        self._loop.call_later(deadline_seconds, self._ended.set)
        self.client_left()

    def client_left(self) -> None:
        """A connection has ended: when leaving, the last one ends the program."""
        if self.is_leaving and not self.clients:
            self._ended.set()

    # --- time ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """One look at every connection a second costs less than a timer for every request."""
        now = self.now()
        for client in list(self.clients):
            client.check(now)
        self._close_idle(now)
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _close_idle(self, now: float) -> None:
        for worker in self.table.workers():
            while worker.idle and now - worker.idle[0].idle_since > self.limits.worker_idle_seconds:
                worker.idle.pop(0).close()

    def _task_failed(self, name: str, error: BaseException) -> None:
        log.error("task.failed", task=name, error=repr(error))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="tqserver.proxy")
    parser.add_argument("--name", required=True)
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--listen", type=int, action="append", required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is control's to handle
    set_title(f"tqserver: {options.name}")
    configure_json()
    listeners = [socket.socket(fileno=descriptor) for descriptor in options.listen]
    link = socket.socket(fileno=options.link)

    async def run() -> None:
        await ProxyServer(listeners, link).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
