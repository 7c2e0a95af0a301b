"""What the proxies counted, added up by page.

A proxy sends its counts when they have changed, and begins at 0 when it is started anew; what one that has ended
counted stays in the sum, what it had in flight does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from tqserver.model.status import TrafficStatus
from tqserver.wire.messages import Counters, RouteCount

RATE_SECONDS = 10.0  # the rate is that of the last so many


@dataclass(slots=True)
class _Sum:
    """Of one page: what ended proxies counted, and the total at moments of the last seconds."""

    requests: int = 0
    failures: int = 0
    totals: deque[tuple[float, int]] = field(default_factory=deque)


class Traffic:
    """The latest counts of every proxy. Moments are those of ``clock.monotonic``."""

    def __init__(self) -> None:
        self._latest: dict[int, Mapping[str, RouteCount]] = {}  # by pid
        self._sums: dict[str, _Sum] = {}

    def heard(self, pid: int, counters: Counters, now: float) -> None:
        """Take the counts of the proxy with this pid."""
        self._latest[pid] = {count.page: count for count in counters.routes}
        for page in self._latest[pid]:
            totals = self._sums.setdefault(page, _Sum()).totals
            totals.append((now, self._requests(page)))
            while len(totals) > 1 and totals[1][0] <= now - RATE_SECONDS:
                totals.popleft()

    def only(self, alive: Set[int]) -> None:
        """The proxies with other pids have ended."""
        for pid in self._latest.keys() - alive:
            for page, count in self._latest.pop(pid).items():
                total = self._sums[page]
                total.requests += count.requests
                total.failures += count.failures

    def of(self, page: str, now: float) -> TrafficStatus | None:
        """Return the counts of a page; None if no proxy has counted anything yet."""
        total = self._sums.get(page)
        if total is None:
            return TrafficStatus(0, 0, 0, 0, 0.0) if self._sums else None
        counts = [latest[page] for latest in self._latest.values() if page in latest]
        return TrafficStatus(
            requests=self._requests(page),
            failures=total.failures + sum(count.failures for count in counts),
            in_flight=sum(count.in_flight for count in counts),
            waiting=sum(count.waiting for count in counts),
            requests_per_second=self._rate(total, now),
        )

    def _requests(self, page: str) -> int:
        counted = sum(latest[page].requests for latest in self._latest.values() if page in latest)
        return self._sums[page].requests + counted

    @staticmethod
    def _rate(total: _Sum, now: float) -> float:
        """Requests between the last count before the window and the latest, over the time since the former."""
        if len(total.totals) < 2:
            return 0.0
        begin = next((at for at in reversed(total.totals) if at[0] <= now - RATE_SECONDS), total.totals[0])
        seconds = now - begin[0]
        return (total.totals[-1][1] - begin[1]) / seconds if seconds > 0 else 0.0
