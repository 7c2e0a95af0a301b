"""Snapshots out, acknowledgements in.

The publisher owns the routing table that proxies are sent: one row per page, replaced whole, numbered. A change
is *published* when every living proxy has acknowledged its version, and a worker is *drained* when every proxy
that may have sent it requests has said so. Both are events that are waited for, never times that are slept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tqserver.control.proxies import Proxy, ProxyPool
from tqserver.host.log import get_logger
from tqserver.wire.messages import Certificate, Cut, Hello, RouteEntry, Snapshot

Compose = Callable[[int, list[RouteEntry]], Snapshot]  # of a version and its rows
log = get_logger("publisher")


class Publisher:
    """The routing table and who has it."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._certificate: Certificate | None = None
        self._rows: dict[str, RouteEntry] = {}
        self._version = 0
        self._snapshot = self._compose(self._version, list(self._rows.values()))
        self._flush_due = False
        self._proxies: ProxyPool | None = None
        self._changed = asyncio.Event()

    def connect(self, proxies: ProxyPool) -> None:
        """From now on these are the proxies."""
        self._proxies = proxies

    def configure(self, compose: Compose) -> None:
        """Publish by what this makes of the rows from now on."""
        self._compose = compose
        self._flush_soon()

    def show(self, certificate: Certificate | None) -> None:
        """Have proxies that speak TLS show this certificate from now on."""
        self._certificate = certificate
        if certificate is not None and self._proxies is not None:
            self._proxies.broadcast(certificate)

    # --- the table ----------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version that contains all that has been set by now."""
        return self._version

    def set_row(self, row: RouteEntry) -> int:
        """Put a page's row into the table; return the version that will contain it."""
        self._rows[row.page] = row
        return self._flush_soon()

    def remove_row(self, page: str) -> int:
        """Take a page out of the table; return the version that will lack it."""
        self._rows.pop(page, None)
        return self._flush_soon()

    def touch(self) -> int:
        """Publish the table as it is; return its version."""
        return self._flush_soon()

    def row(self, page: str) -> RouteEntry | None:
        """Return a page's row as it was last set."""
        return self._rows.get(page)

    def _flush_soon(self) -> int:
        """Changes of one turn of the event loop share a snapshot: with many pages, each costs something."""
        if not self._flush_due:
            self._flush_due = True
            self._version += 1
            asyncio.get_running_loop().call_soon(self._flush)
        return self._version

    def _flush(self) -> None:
        self._flush_due = False
        self._snapshot = self._compose(self._version, list(self._rows.values()))
        if self._proxies is not None:
            self._proxies.broadcast(self._snapshot)

    # --- what the proxies say -----------------------------------------------------------------------------

    def heard(self, proxy: Proxy, message: object) -> None:
        """Take note of a proxy's message."""
        if isinstance(message, Hello):
            if self._certificate is not None:
                proxy.send(self._certificate)
            proxy.send(self._snapshot)
        self.wake()

    def wake(self) -> None:
        """A proxy spoke, came or went: those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _alive(self) -> list[Proxy]:
        return self._proxies.alive if self._proxies is not None else []

    async def acknowledged(self, version: int) -> None:
        """Wait until every living proxy routes by this version, and there is one."""
        await self._until(lambda: bool(self._alive()) and all(proxy.acknowledged >= version for proxy in self._alive()))
        log.info("snapshot.acknowledged", version=version)

    async def drained(self, version: int, worker: int) -> None:
        """Wait until no proxy has a request in flight for a worker that ``version`` no longer contains.

        A proxy that started after that version never heard of the worker.
        """
        await self._until(
            lambda: all(worker in proxy.drained or proxy.first_version >= version for proxy in self._alive())
        )

    def forget(self, worker: int) -> None:
        """A worker has been stopped: nothing will be asked about it again."""
        for proxy in self._alive():
            proxy.drained.discard(worker)

    def cut(self, worker: int) -> None:
        """Have every proxy end what is still in flight for a worker."""
        if self._proxies is not None:
            self._proxies.broadcast(Cut(worker))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()
