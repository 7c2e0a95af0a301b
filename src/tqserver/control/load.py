"""What the proxies count, added up: a proxy that ends takes nothing away, and no total ever goes back.

Moments are seconds of ``clock.monotonic``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tqserver.model.latency import BUCKETS, quantile
from tqserver.wire.messages import Counters, RouteCount, WorkerCount


@dataclass(frozen=True, slots=True)
class PageLoad:
    """Of one page, over all proxies. ``requests`` since the server started, or since the last look."""

    requests: int = 0
    failures: int = 0
    in_flight: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """The requests for one page that were answered since the server started.

    ``codes`` by the first digit of the status, 0 for none; ``durations`` by bucket of
    :data:`tqserver.model.latency.BOUNDS`, ``seconds`` their sum; ``cut`` are the answers that were cut short.
    """

    codes: Sequence[int] = (0,) * 6
    durations: Sequence[int] = (0,) * BUCKETS
    seconds: float = 0.0
    cut: int = 0

    def plus(self, count: RouteCount) -> Answers:
        """Return these and what a proxy counted since it did so before."""
        return Answers(
            _sum(self.codes, count.codes) if count.codes else self.codes,
            _sum(self.durations, count.durations) if count.durations else self.durations,
            self.seconds + count.seconds,
            self.cut + count.cut,
        )


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


RATE_SECONDS = 10.0  # the rate is that of the last so many
RECENT_SECONDS = 60.0  # quantiles are of the last so many
_SLOT_SECONDS = 5.0  # in steps of so many: a page's last minute is a dozen short lists


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


@dataclass(slots=True)
class _Recent:
    """The durations of one page in the last seconds, by slot of time."""

    slots: deque[tuple[int, list[int]]] = field(default_factory=deque)

    def note(self, now: float, durations: list[int]) -> None:
        slot = int(now / _SLOT_SECONDS)
        if self.slots and self.slots[-1][0] == slot:
            self.slots[-1] = (slot, _sum(self.slots[-1][1], durations))
        else:
            self.slots.append((slot, durations))
        while self.slots[0][0] <= slot - RECENT_SECONDS / _SLOT_SECONDS:
            self.slots.popleft()

    def total(self, now: float) -> list[int]:
        first = int(now / _SLOT_SECONDS) - RECENT_SECONDS / _SLOT_SECONDS
        kept = [durations for slot, durations in self.slots if slot > first]
        return [sum(column) for column in zip(*kept, strict=True)]


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """Of one worker, over all proxies. ``silent``: the longest row of requests that timed out at it."""

    requests: int = 0
    in_flight: int = 0
    silent: int = 0


class Loads:
    """The totals of all proxies since the server started, and what the proxies that run have at present."""

    def __init__(self) -> None:
        self.has_heard = False  # a proxy has counted
        self._present: dict[str, dict[str, RouteCount]] = {}  # proxy -> page -> what it has in flight
        self._workers: dict[str, dict[int, WorkerCount]] = {}
        self._connections: dict[str, int] = {}
        self._requests: dict[str, int] = defaultdict(int)
        self._failures: dict[str, int] = defaultdict(int)
        self._answers: dict[str, Answers] = defaultdict(Answers)
        self._rates: dict[str, _Rate] = defaultdict(_Rate)
        self._recent: dict[str, _Recent] = defaultdict(_Recent)
        self._ended_workers: dict[int, int] = {}  # worker -> requests

    def heard(self, proxy: str, counters: Counters, now: float) -> Mapping[str, PageLoad]:
        """Take a proxy's counts; return each page that they concern, with its requests since the last time."""
        self.has_heard = True
        self._present[proxy] = {count.page: count for count in counters.routes}
        self._workers[proxy] = {count.worker: count for count in counters.workers}
        self._connections[proxy] = counters.connections
        news: dict[str, PageLoad] = {}
        for count in counters.routes:
            self._add(count, now)
            total = self.page(count.page)
            news[count.page] = PageLoad(count.requests, total.failures, total.in_flight, total.waiting)
        return news

    def _add(self, count: RouteCount, now: float) -> None:
        self._requests[count.page] += count.requests
        self._failures[count.page] += count.failures
        self._answers[count.page] = self._answers[count.page].plus(count)
        self._rates[count.page].note(now, self._requests[count.page])
        if count.durations:
            self._recent[count.page].note(now, count.durations)

    def ended(self, proxy: str, alive: Collection[int]) -> None:
        """A proxy is gone: what it counted stays counted, what was in flight there is not.

        ``alive`` are the workers that still run: counts of others are of no use to anybody.
        """
        self._connections.pop(proxy, None)
        self._present.pop(proxy, None)
        for number, worker in self._workers.pop(proxy, {}).items():
            self._ended_workers[number] = self._ended_workers.get(number, 0) + worker.requests
        self._ended_workers = {number: count for number, count in self._ended_workers.items() if number in alive}

    @property
    def connections(self) -> int:
        """Open client connections."""
        return sum(self._connections.values())

    @property
    def in_flight(self) -> int:
        """Requests that are being answered, of all pages."""
        return sum(count.in_flight for pages in self._present.values() for count in pages.values())

    def page(self, name: str) -> PageLoad:
        """Return the totals of a page."""
        counts = [pages[name] for pages in self._present.values() if name in pages]
        return PageLoad(
            self._requests.get(name, 0),
            self._failures.get(name, 0),
            sum(count.in_flight for count in counts),
            sum(count.waiting for count in counts),
        )

    def answers(self, page: str) -> Answers:
        """Return what was answered of a page; of "", of requests that no page answers."""
        return self._answers.get(page, Answers())

    def requests_per_second(self, page: str, now: float) -> float:
        """Return how many requests a page had in each of the last seconds."""
        return self._rates[page].per_second(now) if page in self._rates else 0.0

    def latency(self, page: str, share: float, now: float) -> float | None:
        """Return the seconds within which this share was answered in the last minute; None if nothing was."""
        return quantile(share, self._recent[page].total(now)) if page in self._recent else None

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
