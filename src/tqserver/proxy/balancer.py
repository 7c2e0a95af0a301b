"""Which worker gets the next request: the one with the fewest in flight, of these the next in turn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """What can be chosen."""

    number: int
    in_flight: int


WorkerT = TypeVar("WorkerT", bound=Loaded)


def choose(workers: Sequence[WorkerT], avoid: Collection[int], turn: int) -> WorkerT | None:
    """Return the least loaded worker that is not in ``avoid``; ``turn`` breaks ties in rotation."""
    if len(workers) == 1 and not avoid:
        return workers[0]
    best: WorkerT | None = None
    for offset in range(len(workers)):
        worker = workers[(turn + offset) % len(workers)]
        if worker.number not in avoid and (best is None or worker.in_flight < best.in_flight):
            best = worker
    return best
