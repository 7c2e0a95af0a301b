"""What is counted for control: sent about once a second, if something changed."""

from __future__ import annotations

from collections.abc import Iterable

from tqserver.proxy.table import Page
from tqserver.wire.messages import Counters, RouteCount


def count(connections: int, pages: Iterable[Page]) -> Counters:
    """Return the present counts of all pages that were ever asked for."""
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
            for page in pages
            if page.requests
        ],
    )
