"""The processes below one, as the kernel tells (proc(5), task/children).

A page can give what it starts an environment, a session and a process group of its own, so none of these says whose it
is. Its parent does: the worker, and once that has ended whoever is subreaper above it, which is control.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Process:
    """A process that ran when it was seen. ``started`` is in clock ticks since boot: a pid may be given out again."""

    pid: int
    started: int


def below(*tops: int, but_not: Collection[int] = ()) -> set[Process]:
    """Return what runs below these pids, ``but_not`` these pids nor what is below them."""
    found: set[Process] = set()
    waiting = list(tops)
    while waiting:
        for pid in _children(waiting.pop()):
            if pid in but_not or (process := _seen(pid)) is None or process in found:
                continue
            found.add(process)
            waiting.append(pid)
    return found


def kill(processes: Iterable[Process]) -> list[int]:
    """SIGKILL those that still run, and what is below them by now; return their pids."""
    running = {process for process in processes if _seen(process.pid) == process}
    everything = running | below(*(process.pid for process in running))
    return sorted(process.pid for process in everything if _kill(process))


def kill_below(top: int, *, but_not: Collection[int]) -> list[int]:
    """SIGKILL all that runs below this process, a subreaper, and what was being forked meanwhile; return the pids."""
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        if not (found := below(top, but_not=but_not)):
            break
        killed.update(kill(found))
        os.sched_yield()
    return sorted(killed)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # it has just exited
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _seen(pid: int) -> Process | None:
    """Return the process of this pid, None if none runs: a zombie does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def _kill(process: Process) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if _seen(process.pid) != process:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True
