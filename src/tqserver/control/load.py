"""What the proxies count, added up: a proxy that ends takes nothing away.

Moments are seconds of ``clock.monotonic``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tqserver.wire.messages import Counters, RouteCount, WorkerCount


@dataclass(frozen=True, slots=True)
class PageLoad:
    """Of one page, over all proxies. ``requests`` since the server started, or since the last look."""

    requests: int = 0
    failures: int = 0
    in_flight: int = 0
    waiting: int = 0


RATE_SECONDS = 10.0  # the rate is that of the last so many


@dataclass(slots=True)
class _Rate:
    """The total of one page at moments of the last seconds."""

    totals: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, now: float, total: int) -> None:
        self.totals.append((now, total))
        while len(self.totals) > 1 and self.totals[1][0] <= now - RATE_SECONDS:
            self.totals.popleft()

    def per_second(self, now: float) -> float:
        """Requests between the last count before the window and the latest, over the time since the former."""
        if len(self.totals) < 2:
            return 0.0
        begin = next((at for at in reversed(self.totals) if at[0] <= now - RATE_SECONDS), self.totals[0])
        seconds = now - begin[0]
        return (self.totals[-1][1] - begin[1]) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """Of one worker, over all proxies. ``silent``: the longest row of requests that timed out at it."""

    requests: int = 0
    in_flight: int = 0
    silent: int = 0


class Loads:
    """The latest counts of every proxy, and the last ones of those that have ended."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, RouteCount]] = {}  # proxy -> page -> count
        self._workers: dict[str, dict[int, WorkerCount]] = {}
        self._connections: dict[str, int] = {}
        self._rates: dict[str, _Rate] = defaultdict(_Rate)
        self._ended_pages: dict[str, PageLoad] = defaultdict(PageLoad)
        self._ended_workers: dict[int, int] = {}  # worker -> requests

    def heard(self, proxy: str, counters: Counters, now: float) -> Mapping[str, PageLoad]:
        """Take a proxy's counts; return each page that they concern, with its requests since the last time."""
        before = self._pages.get(proxy, {})
        self._pages[proxy] = {count.page: count for count in counters.routes}
        self._workers[proxy] = {count.worker: count for count in counters.workers}
        self._connections[proxy] = counters.connections
        news: dict[str, PageLoad] = {}
        for count in counters.routes:
            earlier = before.get(count.page)
            if count != earlier:
                total = self.page(count.page)
                self._rates[count.page].note(now, total.requests)
                since = count.requests - (earlier.requests if earlier else 0)
                news[count.page] = PageLoad(since, total.failures, total.in_flight, total.waiting)
        return news

    def ended(self, proxy: str, alive: Collection[int]) -> None:
        """A proxy is gone: what it counted stays counted, what was in flight there is not.

        ``alive`` are the workers that still run: counts of others are of no use to anybody.
        """
        self._connections.pop(proxy, None)
        for page, count in self._pages.pop(proxy, {}).items():
            old = self._ended_pages[page]
            self._ended_pages[page] = PageLoad(old.requests + count.requests, old.failures + count.failures)
        for number, worker in self._workers.pop(proxy, {}).items():
            self._ended_workers[number] = self._ended_workers.get(number, 0) + worker.requests
        self._ended_workers = {number: count for number, count in self._ended_workers.items() if number in alive}

    @property
    def has_heard(self) -> bool:
        """Whether a proxy has counted yet."""
        return bool(self._pages or self._ended_pages)

    @property
    def connections(self) -> int:
        """Open client connections."""
        return sum(self._connections.values())

    def page(self, name: str) -> PageLoad:
        """Return the totals of a page."""
        counts = [pages[name] for pages in self._pages.values() if name in pages]
        old = self._ended_pages.get(name, PageLoad())
        return PageLoad(
            old.requests + sum(count.requests for count in counts),
            old.failures + sum(count.failures for count in counts),
            sum(count.in_flight for count in counts),
            sum(count.waiting for count in counts),
        )

    def requests_per_second(self, page: str, now: float) -> float:
        """Return how many requests a page had in each of the last seconds."""
        return self._rates[page].per_second(now) if page in self._rates else 0.0

    def worker(self, number: int) -> WorkerLoad:
        """Return the totals of a worker."""
        counts = [workers[number] for workers in self._workers.values() if number in workers]
        return WorkerLoad(
            self._ended_workers.get(number, 0) + sum(count.requests for count in counts),
            sum(count.in_flight for count in counts),
            max((count.silent for count in counts), default=0),
        )

    def workers(self, numbers: list[int]) -> dict[int, WorkerLoad]:
        """Return the totals of several workers."""
        return {number: self.worker(number) for number in numbers}
