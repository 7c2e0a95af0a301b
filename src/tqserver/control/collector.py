"""Removes artifacts that nothing refers to; by reference, never by age (pitfall 28).

What stays: the last revisions of each page, which the journal names; what a worker runs from, however long it takes
to drain; what an attempt is about to use. All three are known on the event loop, and an artifact is put out of sight
there too, in the same turn in which nothing was found to refer to it. Only listing and deleting, which take time, are
left to a thread: an artifact published meanwhile is not on the list, and one that an attempt claims meanwhile is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from tqserver.build.store import Store
from tqserver.control.agent import NodeAgent
from tqserver.control.journal import Journal
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner

log = get_logger("collector")


class Collector:
    """Keeps the store to what is referred to."""

    def __init__(self, store: Store, journal: Journal, agent: NodeAgent, tasks: TaskOwner) -> None:
        self._store = store
        self._journal = journal
        self._agent = agent
        self._tasks = tasks
        self._claims: Counter[str] = Counter()
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def claimed(self, digest: str) -> Iterator[None]:
        """Hold an artifact, there or still to be built, until a revision or a worker refers to it."""
        self._claims[digest] += 1
        try:
            yield
        finally:
            self._claims -= Counter((digest,))  # drops what is no longer claimed

    def soon(self) -> None:
        """Collect in the background; once more at its end if asked meanwhile."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._collect_while_asked(), name="collector")

    async def _collect_while_asked(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self._collect()
            except OSError as error:
                log.warning("store.not_collected", error=str(error), remedy="it is tried again at the next publication")

    async def _collect(self) -> None:
        found = await asyncio.to_thread(self._store.digests)
        if unused := found - self._referred():
            grave = self._store.set_aside(unused)
            await asyncio.to_thread(self._store.destroy, grave)
            log.debug("store.collected", artifacts=len(unused))

    def _referred(self) -> set[str]:
        running = {worker.digest for worker in self._agent.list()}
        return {*self._claims, *self._journal.digests(), *running}
