"""How much memory processes have."""

from __future__ import annotations

import os


def group_memory_bytes(leader: int) -> int:
    """Return the memory of a process and of those in its process group, 0 if it is gone.

    The sum of their proportional set sizes and swap (proc_pid_smaps(5)).
    """
    return sum(memory_bytes(pid) for pid in _group(leader))


def memory_bytes(pid: int) -> int:
    """Return the proportional set size and swap of one process, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(words[1]) * 1024 for words in lines if words[0] in ("Pss:", "SwapPss:"))


def _group(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getpgid(int(name)) == leader:
                    found.append(int(name))
            except ProcessLookupError:
                continue
    return found
