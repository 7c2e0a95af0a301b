"""The clients of a proxy: how many there may be, who gives way, and when the next must wait.

A request takes two descriptors: its client's connection, and one to a worker. Clients that only sit there must not
take those that lead to workers, so half of all are theirs. Beyond that, connections that have been idle for longest
are closed; if none is idle, nobody is accepted until somebody leaves, and the kernel's queue holds the others.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tqserver.host.log import get_logger
from tqserver.proxy.table import Table
from tqserver.proxy.ticker import Ticker

if TYPE_CHECKING:
    from tqserver.proxy.downstream import Downstream

OWN_DESCRIPTORS = 32  # the link, the listening sockets, the event loop, output
ROOM_SHARE = 8  # one of so many connections is made room for at once: to look for the idle costs a look at all
NOTE_INTERVAL_SECONDS = 60.0

log = get_logger("proxy")


class FullNotice:
    """Says that a proxy is full, and what helps: once a minute at most."""

    def __init__(self, ticker: Ticker, open_files: int) -> None:
        self._ticker = ticker
        self._open_files = open_files
        self._next_at = 0.0

    def say(self, reason: str) -> None:
        """Say it, unless it was said a moment ago."""
        if self._ticker.now >= self._next_at:
            self._next_at = self._ticker.now + NOTE_INTERVAL_SECONDS
            log.warning(
                "proxy.full",
                reason=reason,
                open_files=self._open_files,
                remedy="raise server.max_connections if it is set, the limit of open files (LimitNOFILE in the unit "
                "file, ulimit -Hn), or server.proxies; server.max_connections_per_client bounds a single client",
            )


class Clients:
    """All connections of clients. ``must_wait``: no more are accepted, between ``pause`` and ``resume``."""

    def __init__(
        self,
        table: Table,
        notice: FullNotice,
        open_files: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._table = table
        self._notice = notice
        self._bearable = max((open_files - OWN_DESCRIPTORS) // 2, 1)
        self._pause = pause
        self._resume = resume
        self._all: dict[Downstream, None] = {}  # in the order in which they came
        self._of_address: Counter[bytes] = Counter()
        self.must_wait = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Downstream]:
        """Iterate over those that are there now, whatever becomes of them meanwhile."""
        return iter(list(self._all))

    @property
    def _most(self) -> int:
        wanted = self._table.limits.max_connections
        return min(wanted, self._bearable) if wanted else self._bearable

    def add(self, client: Downstream) -> bool:
        """A client has connected; False if its address has as many connections as it may.

        A trusted peer speaks for many clients, and the other end of a unix socket has no address.
        """
        peer = client.peer
        most_of_address = self._table.limits.max_connections_per_client
        bounded = most_of_address and peer.counted_as and not peer.is_trusted
        if bounded and self._of_address[peer.counted_as] >= most_of_address:
            return False
        self._of_address[peer.counted_as] += 1
        self._all[client] = None
        if len(self._all) > self._most and not self.must_wait:
            self._make_room()
        return True

    def remove(self, client: Downstream) -> None:
        """A client is gone, or as good as gone."""
        if client not in self._all:
            return
        del self._all[client]
        address = client.peer.counted_as
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]
        if self.must_wait and len(self._all) <= self._most - self._most // ROOM_SHARE:
            self.must_wait = False
            self._resume()

    def _make_room(self) -> None:
        """Close those that have been idle for longest: their deadline is the next, or they came first."""
        self._notice.say(f"{len(self._all)} clients are connected")
        surplus = len(self._all) - self._most + self._most // ROOM_SHARE
        idle = [client for client in self._all if client.is_idle]
        for client in heapq.nsmallest(surplus, idle, key=lambda client: client.deadline):
            self.remove(client)
            client.make_way()
        if len(self._all) > self._most and not self.must_wait:
            self.must_wait = True
            self._pause()

    def tick(self) -> None:
        """Let in who waits, if somebody has become idle."""
        if self.must_wait:
            self._make_room()
