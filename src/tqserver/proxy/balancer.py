"""Which of a page's workers gets a request: the one with the least in flight; among equals, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """Something that requests are in flight for."""

    @property
    def in_flight(self) -> int:
        """Requests that it has not answered."""
        ...


LoadedT = TypeVar("LoadedT", bound=Loaded)


def pick(workers: Sequence[LoadedT], turn: int) -> LoadedT:
    """Return the least loaded of ``workers``, which is not empty.

    ``turn`` is any number that grows by one with each choice: the search begins there, so that equals
    alternate.
    """
    start = turn % len(workers)
    return min((*workers[start:], *workers[:start]), key=lambda worker: worker.in_flight)
