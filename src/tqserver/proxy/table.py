"""The snapshot that was sent, and what is the case of each worker: two objects.

A :class:`Row` is what control asked for and is replaced with each snapshot; a :class:`WorkerState` lives as long as
a worker is in a snapshot or has something in flight here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tqserver.model.routing import Pattern, RouteTable
from tqserver.wire.messages import RouteEntry, Snapshot

if TYPE_CHECKING:
    from tqserver.proxy.upstream import Upstream


class WorkerState:
    """One worker as this proxy sees it."""

    __slots__ = ("endpoint", "gone", "idle", "in_flight", "number", "opened")

    def __init__(self, number: int, endpoint: str) -> None:
        self.number = number
        self.endpoint = endpoint
        self.in_flight = 0  # exchanges and tunnels, also those whose connection is being opened
        self.idle: list[Upstream] = []
        self.opened: set[Upstream] = set()
        self.gone = False  # no longer in the snapshot


class Row:
    """One page of the snapshot."""

    __slots__ = ("entry", "turn", "workers")

    def __init__(self, entry: RouteEntry, workers: list[WorkerState]) -> None:
        self.entry = entry
        self.workers = workers
        self.turn = 0


class Table:
    """The latest snapshot. ``on_drained(worker)`` is called once for each worker that left and has come to rest."""

    def __init__(self, on_drained: Callable[[int], None]) -> None:
        self.snapshot = Snapshot(0, "dev", [])
        self.routes: RouteTable[Row] = RouteTable([])
        self._workers: dict[int, WorkerState] = {}
        self._on_drained = on_drained

    def swap(self, snapshot: Snapshot) -> None:
        """Route by this snapshot from now on; close the idle connections to workers that left."""
        rows, present = [], set()
        for entry in snapshot.routes:
            states = []
            for ref in entry.workers:
                present.add(ref.worker)
                state = self._workers.get(ref.worker)
                if state is None:
                    state = self._workers[ref.worker] = WorkerState(ref.worker, ref.endpoint)
                states.append(state)
            rows.append((Pattern.parse(entry.pattern), Row(entry, states)))
        self.snapshot, self.routes = snapshot, RouteTable(rows)
        for state in [state for number, state in self._workers.items() if number not in present]:
            state.gone = True
            for connection in state.idle:
                connection.close()
            state.idle.clear()
            self.rest(state)

    def rest(self, state: WorkerState) -> None:
        """Something in flight for this worker has ended: if it has left and was the last, say so."""
        if state.gone and state.in_flight == 0 and self._workers.pop(state.number, None) is not None:
            self._on_drained(state.number)

    def workers(self) -> list[WorkerState]:
        """Return the workers that are known here."""
        return list(self._workers.values())
