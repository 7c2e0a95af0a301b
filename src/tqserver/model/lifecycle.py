"""The states of a worker and of a page, and the only moves between them.

Each protocol is one table; :func:`advance` is the one gate, so an illegal move is a loud defect and not a
worker that is half stopped.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

from tqserver.model.errors import IllegalTransition


class WorkerState(enum.Enum):
    """One process, from spawn to reaped."""

    STARTING = "starting"  # spawned, not yet seen ready
    READY = "ready"  # answered; may be in the snapshot
    DRAINING = "draining"  # out of the snapshot; finishes what is in flight
    STOPPING = "stopping"  # told to end (SIGTERM, then SIGKILL)
    EXITED = "exited"  # reaped; its port and socket are free again


class Cause(enum.Enum):
    """Why a worker was replaced that nothing new was to replace."""

    DIED = "died"  # it exited, or somebody killed it
    MAX_REQUESTS = "max_requests"
    MEMORY = "memory_limit"  # it came near, or went beyond
    HEALTH = "health"  # its probes failed
    TIMEOUTS = "timeouts"  # its requests did


class PageState(enum.Enum):
    """What a page does for its clients right now."""

    NEW = "new"  # found, never served
    BUILDING = "building"  # no revision is live; one is being made
    LIVE = "live"  # a revision answers
    UPDATING = "updating"  # a revision answers; the next is being made
    BROKEN = "broken"  # nothing answers: the only content known does not build or start
    STALE = "stale"  # the last good revision answers; what is on disk does not build or start
    FAILED = "failed"  # nothing answers: its workers kept dying, and no more are started
    GONE = "gone"  # deleted from disk; draining or drained


WORKER_MOVES: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.STARTING: frozenset({WorkerState.READY, WorkerState.STOPPING, WorkerState.EXITED}),
    WorkerState.READY: frozenset({WorkerState.DRAINING, WorkerState.STOPPING, WorkerState.EXITED}),
    WorkerState.DRAINING: frozenset({WorkerState.STOPPING, WorkerState.EXITED}),
    WorkerState.STOPPING: frozenset({WorkerState.EXITED}),
    WorkerState.EXITED: frozenset(),
}

PAGE_MOVES: Mapping[PageState, frozenset[PageState]] = {
    PageState.NEW: frozenset({PageState.BUILDING, PageState.GONE}),
    PageState.BUILDING: frozenset({PageState.LIVE, PageState.BROKEN, PageState.GONE}),
    PageState.LIVE: frozenset({PageState.UPDATING, PageState.FAILED, PageState.GONE}),
    PageState.UPDATING: frozenset({PageState.LIVE, PageState.STALE, PageState.FAILED, PageState.GONE}),
    PageState.BROKEN: frozenset({PageState.BUILDING, PageState.GONE}),
    PageState.STALE: frozenset({PageState.UPDATING, PageState.LIVE, PageState.FAILED, PageState.GONE}),
    PageState.FAILED: frozenset({PageState.BUILDING, PageState.LIVE, PageState.BROKEN, PageState.GONE}),
    PageState.GONE: frozenset({PageState.BUILDING}),
}

StateT = TypeVar("StateT", WorkerState, PageState)


def advance(moves: Mapping[StateT, frozenset[StateT]], current: StateT, wanted: StateT) -> StateT:
    """Return ``wanted`` if the table allows the move, else raise :class:`IllegalTransition`."""
    if wanted not in moves[current]:
        raise IllegalTransition(f"{type(current).__name__}: no move from {current.value} to {wanted.value}")
    return wanted
