"""What the kernel allows a process."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Let this process, and what it starts, have as many files open as it may; return how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
