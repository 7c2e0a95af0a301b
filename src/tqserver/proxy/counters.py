"""What is counted for control: sent about once a second, if something changed.

Requests cost no message and no object: each adds to the numbers of its page, which are taken from there when they are
sent. So control adds up what it hears, and a proxy that ends takes no more along than its last second.
"""

from __future__ import annotations

from tqserver.model.latency import BUCKETS
from tqserver.proxy.table import STATUS_CLASSES, Page, Table
from tqserver.wire.messages import Counters, RouteCount, WorkerCount


class Counts:
    """Counts of all pages and workers, as they are to be told next."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._told: Counters | None = None

    def news(self, connections: int) -> Counters | None:
        """Take what was counted since the last time; None if that is nothing, and all else is as it was."""
        table = self._table
        counters = Counters(
            connections=connections,
            routes=[_taken(page) for page in (*table.pages.values(), table.nobody) if _is_news(page)],
            workers=[
                WorkerCount(
                    worker=worker.number, requests=worker.requests, in_flight=worker.in_flight, silent=worker.silent
                )
                for worker in table.workers.values()
                if worker.requests
            ],
        )
        if counters == self._told and not any(count.requests or count.codes for count in counters.routes):
            return None
        self._told = counters
        return counters


def _is_news(page: Page) -> bool:
    """Tell whether anything is to be said of a page; of one that is not named, nothing is in flight."""
    return bool(page.requests or page.in_flight or any(page.codes))


def _taken(page: Page) -> RouteCount:
    """Return the counts of a page, which begin anew."""
    count = RouteCount(
        page=page.name,
        requests=page.requests,
        failures=page.failures,
        in_flight=page.in_flight,
        waiting=len(page.waiting),
        cut=page.cut,
        codes=page.codes if any(page.codes) else [],
        durations=page.durations if any(page.codes) else [],
        seconds=page.seconds,
    )
    page.requests = page.failures = page.cut = 0
    page.seconds = 0.0
    if count.codes:
        page.codes, page.durations = [0] * STATUS_CLASSES, [0] * BUCKETS
    return count
