"""The connections to workers: kept while they are idle, checked before they are used again, opened.

An endpoint's form is known here and nowhere above: ``unix:/path`` or ``tcp:host:port``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tqserver.host.tasks import TaskOwner
from tqserver.proxy.table import Worker
from tqserver.proxy.ticker import Ticker
from tqserver.proxy.upstream import Upstream

CONNECT_TIMEOUT_SECONDS = 5.0

OnOpen = Callable[[Upstream], None]
OnRefused = Callable[[OSError], None]


class Connections:
    """Opens and keeps connections. Each belongs to one worker, and so to one revision (pitfall 4)."""

    def __init__(self, tasks: TaskOwner, ticker: Ticker) -> None:
        self._tasks = tasks
        self._ticker = ticker

    def take_idle(self, worker: Worker, *, checked: bool) -> Upstream | None:
        """Return an idle connection, the last used first; None if there is none.

        ``checked``: it is for a request that cannot be sent twice, so the kernel is asked whether the worker
        has closed it meanwhile.
        """
        idle = worker.idle
        while idle:
            upstream = idle.pop()
            if upstream.is_usable(checked=checked):
                return upstream
            upstream.close()
        return None

    def open(self, worker: Worker, on_open: OnOpen, on_refused: OnRefused) -> None:
        """Open a connection; one of the two is called, later."""
        self._tasks.start(self._open(worker, on_open, on_refused), name=f"connect to worker {worker.number}")

    async def _open(self, worker: Worker, on_open: OnOpen, on_refused: OnRefused) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                upstream = await _connect(worker)
        except OSError as error:  # TimeoutError is one
            on_refused(error)
            return
        on_open(upstream)

    def keep(self, upstream: Upstream) -> None:
        """An answer is whole and the connection can serve again: keep it, unless its worker left."""
        worker = upstream.worker
        if worker.has_left or worker.idle_seconds <= 0:
            upstream.close()
        else:
            upstream.idle_since = self._ticker.now
            worker.idle.append(upstream)

    def close_idle(self, worker: Worker) -> None:
        """Close every idle connection of a worker."""
        while worker.idle:
            worker.idle.pop().close()

    def drop_idle(self, worker: Worker) -> None:
        """Close what has been idle for long: sooner than the worker would (pitfall 4)."""
        before = self._ticker.now - worker.idle_seconds
        while worker.idle and worker.idle[0].idle_since < before:
            worker.idle.pop(0).close()


async def _connect(worker: Worker) -> Upstream:
    loop = asyncio.get_running_loop()
    kind, _, where = worker.endpoint.partition(":")
    if kind == "unix":
        _, upstream = await loop.create_unix_connection(lambda: Upstream(worker), where)
    else:
        host, _, port = where.rpartition(":")
        _, upstream = await loop.create_connection(lambda: Upstream(worker), host.strip("[]"), int(port))
    return upstream
