"""From a request to a worker's connection: choose, hold, try again.

What happens when a snapshot comes is here too, since it is the same question asked anew: where do those that
wait go, and has a worker that left come to rest?
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tqserver.proxy import balancer
from tqserver.proxy.clients import FullNotice
from tqserver.proxy.connections import Connections
from tqserver.proxy.exchange import Exchange
from tqserver.proxy.table import Page, Route, Table, Worker
from tqserver.proxy.upstream import Upstream
from tqserver.wire.messages import Acknowledged, Demand, Drained, FromProxy, Refused, Snapshot

if TYPE_CHECKING:
    from tqserver.proxy.relay import Relay

_SPENT = frozenset((errno.EMFILE, errno.ENFILE))  # descriptors, of the proxy or of the machine


class Dispatcher:
    """Gives each request a connection to a worker of its page, or has it answered otherwise."""

    def __init__(
        self, table: Table, connections: Connections, tell: Callable[[FromProxy], None], notice: FullNotice
    ) -> None:
        self._table = table
        self._notice = notice
        self._connections = connections
        self._tell = tell

    # --- one request ----------------------------------------------------------------------------------------

    def dispatch(self, relay: Relay, route: Route, exchange: Exchange) -> None:
        """Choose a worker and a connection to it; without a worker, hold the request."""
        worker = self._choose(route, exchange.avoided)
        if worker is None:
            self._hold(relay, route)
            return
        concurrency = route.limits.concurrency
        if concurrency and worker.in_flight >= concurrency and not route.asked_for_more:
            route.asked_for_more = True  # until the next snapshot: it may bring one
            self._tell(Demand(page=route.page.name))
        worker.active.add(relay)
        relay.worker = worker
        upstream = None
        if not exchange.needs_fresh_connection:
            upstream = self._connections.take_idle(worker, checked=not exchange.is_repeatable)
        if upstream is not None:
            worker.requests += 1
            relay.send_to(upstream)
            return
        relay.wait_for_worker(route)
        self._connections.open(
            worker,
            partial(self._opened, relay, exchange, worker),
            partial(self._refused, relay, exchange, worker),
        )

    @staticmethod
    def _choose(route: Route, avoided: Sequence[int]) -> Worker | None:
        workers = route.workers
        if len(workers) == 1 and not avoided:
            return None if workers[0].is_resting else workers[0]
        ready = [worker for worker in workers if not worker.is_resting and worker.number not in avoided]
        if not ready:
            return None
        route.page.turn += 1
        return balancer.pick(ready, route.page.turn)

    def _hold(self, relay: Relay, route: Route) -> None:
        """No worker can take it: wait for a snapshot that brings one, or say why none will."""
        page = route.page
        if not route.workers and route.entry.failure is not None:
            relay.reply(503, failure=route.entry.failure)
        elif len(page.waiting) >= route.limits.queue:
            relay.reply(503, detail=f"{len(page.waiting)} requests wait for this page already.")
        else:
            page.waiting[relay] = None
            relay.wait_for_worker(route)
            if not route.workers and not page.demanded:
                page.demanded = True
                self._tell(Demand(page=page.name))

    def stop_waiting(self, relay: Relay, page: Page) -> None:
        """A request is no longer held, if it was."""
        page.waiting.pop(relay, None)
        if not page.waiting:
            page.demanded = False

    def _opened(self, relay: Relay, exchange: Exchange, worker: Worker, upstream: Upstream) -> None:
        if upstream.transport.is_closing():
            self._refused(relay, exchange, worker, ConnectionResetError("closed as soon as it was opened"))
        elif relay.still_wants(exchange, worker):
            worker.requests += 1
            relay.send_to(upstream)
        else:
            self._connections.keep(upstream)

    def _refused(self, relay: Relay, exchange: Exchange, worker: Worker, error: OSError) -> None:
        worker.is_resting = True
        if error.errno in _SPENT:
            self._spare(error)
        elif not isinstance(error, BlockingIOError):  # that is a full backlog: busy, and not ill
            self.complain(worker, str(error) or "the connection timed out")
        if relay.still_wants(exchange, worker):
            relay.connection_refused()

    def _spare(self, error: OSError) -> None:
        """No descriptor is left for a connection to a worker: give up those that serve nobody now."""
        self._notice.say(f"no connection to a worker: {error.strerror}")
        for worker in self._table.workers.values():
            self._connections.close_idle(worker)

    def complain(self, worker: Worker, reason: str) -> None:
        """Have control look at a worker."""
        self._tell(Refused(worker=worker.number, reason=reason))

    def keep(self, upstream: Upstream) -> None:
        """A connection has served and can serve again."""
        self._connections.keep(upstream)

    def part(self, relay: Relay, worker: Worker) -> None:
        """A request is no longer in flight for a worker."""
        worker.active.discard(relay)
        if worker.has_left and not worker.active:
            self._drained(worker)

    # --- all of them ----------------------------------------------------------------------------------------

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the table, between two requests; acknowledge; see to those that left and those that wait."""
        left = self._table.apply(snapshot)
        self._tell(Acknowledged(version=snapshot.version))
        for worker in left:
            self._connections.close_idle(worker)
            if not worker.active:
                self._drained(worker)
        self._dispatch_waiting()

    def _drained(self, worker: Worker) -> None:
        if self._table.forget(worker):
            self._tell(Drained(worker=worker.number))

    def _dispatch_waiting(self) -> None:
        """Ask for each request that waits where it goes now, in the order in which they came."""
        for page in list(self._table.pages.values()):
            waiting, page.waiting = page.waiting, {}
            for relay in waiting:
                relay.dispatch()
            if not page.waiting:
                page.demanded = False

    def cut(self, number: int) -> None:
        """End what is in flight for a worker."""
        worker = self._table.workers.get(number)
        for relay in list(worker.active) if worker is not None else ():
            relay.cut()

    def tick(self) -> None:
        """Let workers that refused or broke be tried again; close what has been idle for long."""
        rested = False
        for page in self._table.pages.values():
            for relay in page.waiting:
                rested = relay.forgive() or rested
        for worker in self._table.workers.values():
            rested = rested or worker.is_resting
            worker.is_resting = False
            self._connections.drop_idle(worker)
        if rested:
            self._dispatch_waiting()
