"""Endpoints, and connections to them: the one place that knows what an endpoint is."""

from __future__ import annotations

import asyncio

from tqserver.proxy.table import WorkerState
from tqserver.proxy.upstream import Upstream


def take_idle(worker: WorkerState) -> Upstream | None:
    """Return an idle connection to a worker, the one used last, or None."""
    while worker.idle:
        connection = worker.idle.pop()
        if connection.is_reusable:
            return connection
        connection.close()
    return None


def keep(connection: Upstream, now: float) -> None:
    """Put a connection into its worker's pool, or close it if it cannot be used again."""
    connection.detach()
    if connection.is_reusable and not connection.worker.gone:
        connection.idle_since = now
        connection.worker.idle.append(connection)
    else:
        connection.close()


async def connect(worker: WorkerState) -> Upstream:
    """Open a connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    kind, _, where = worker.endpoint.partition(":")
    if kind == "unix":
        _, connection = await loop.create_unix_connection(lambda: Upstream(worker), where)
    else:
        host, _, port = where.rpartition(":")
        _, connection = await loop.create_connection(lambda: Upstream(worker), host, int(port))
    return connection
