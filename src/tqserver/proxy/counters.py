"""What is counted for control: sent about once a second, if something changed."""

from __future__ import annotations

from tqserver.proxy.table import Table
from tqserver.wire.messages import Counters, RouteCount, WorkerCount


def count(connections: int, table: Table) -> Counters:
    """Return the present counts of all pages and workers that were ever asked."""
    return Counters(
        connections=connections,
        routes=[
            RouteCount(
                page=page.name,
                requests=page.requests,
                failures=page.failures,
                in_flight=page.in_flight,
                waiting=len(page.waiting),
            )
            for page in table.pages.values()
            if page.requests
        ],
        workers=[
            WorkerCount(
                worker=worker.number, requests=worker.requests, in_flight=worker.in_flight, silent=worker.silent
            )
            for worker in table.workers.values()
            if worker.requests
        ],
    )
