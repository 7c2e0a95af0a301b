"""Time, through one door, so that what depends on it can be given another."""

from __future__ import annotations

import datetime
import time


def monotonic() -> float:
    """Seconds that never jump: for durations and deadlines."""
    return time.monotonic()


def wall() -> float:
    """Seconds since the epoch: for people, never for durations."""
    return time.time()


def date_stamp() -> str:
    """Today in local time as YYYY-MM-DD: the value of ``{date}`` in log file names."""
    return datetime.datetime.now().astimezone().date().isoformat()


def stamp() -> str:
    """This moment in local time, as ISO 8601 with its offset: the ``timestamp`` of log lines."""
    return datetime.datetime.now().astimezone().isoformat(timespec="microseconds")


def log_time(seconds: float) -> str:
    """Return a moment of :func:`wall` in local time as the Common Log Format has it: 24/Nov/2026:13:40:01 +0000."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%d/%b/%Y:%H:%M:%S %z")


def timestamp(seconds: float) -> str:
    """Return a moment of :func:`wall` in local time, as ISO 8601 with its offset, to the second."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
