"""What a process uses of the machine."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, since it started; ``started`` is in seconds since the epoch."""

    cpu_seconds: float  # user and system
    resident_bytes: int
    open_files: int
    started: float


def usage(pid: int) -> Usage | None:
    """Return what a process uses; None if there is none, or it is somebody else's."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss, process.num_fds(), process.create_time())
    except psutil.Error:
        return None
