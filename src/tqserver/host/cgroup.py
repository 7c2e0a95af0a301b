"""A cgroup for each worker that has a memory limit, where this server may make one (cgroups(7), version 2).

::

    OURS                      what the service manager or the container gave us (systemd: Delegate=yes)
    OURS/tqserver             the server, its proxies and zygotes: only a cgroup without processes may hand out memory
    OURS/tqserver-ID-w7       worker 7 of the server with TQ_INSTANCE ID

A worker enters its own before it runs the page (:mod:`tqserver.host.limits`). Beyond ``memory.max`` the kernel kills
all in it at once (``memory.oom.group``), without the second that a watcher needs to look. ``root`` is where version 2
is mounted, a parameter of all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LEAF = "tqserver"
CONTROLLER = "memory"


@dataclass(frozen=True, slots=True)
class Delegation:
    """The cgroup that is ours, or why none is: then ``ours`` is None."""

    ours: Path | None
    reason: str = ""


def membership_of(pid: int | str = "self") -> str:
    """Return what the kernel says of the cgroups of a process. Raises OSError."""
    return Path(f"/proc/{pid}/cgroup").read_text()


def delegation(root: Path, membership: str) -> Delegation:
    """Say whether a process may make cgroups with a memory limit beside its own. Changes nothing.

    ``membership`` is the text of its ``/proc/PID/cgroup``.
    """
    if not (root / "cgroup.controllers").exists():
        return Delegation(None, "cgroup v2 is not mounted")
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None:
        return Delegation(None, "this process is in no cgroup v2")
    own = root / path.lstrip("/")
    ours = own.parent if own.name == LEAF else own
    controllers = _words(ours / "cgroup.controllers")
    if CONTROLLER not in controllers:
        return Delegation(None, f"{ours} has no memory controller")
    if not all(os.access(file, os.W_OK) for file in (ours, ours / "cgroup.procs", ours / "cgroup.subtree_control")):
        return Delegation(None, f"{ours} cannot be written")
    return Delegation(ours)


def is_in_force(found: Delegation) -> bool:
    """Whether a server that runs in this cgroup has its workers' memory limited by the kernel."""
    return found.ours is not None and CONTROLLER in _words(found.ours / "cgroup.subtree_control")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


class Cgroup:
    """The cgroup of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def limit_memory(self, limit_bytes: int) -> None:
        """Allow so much memory, and no swap; 0 is no limit. Raises OSError."""
        (self.path / "memory.max").write_text(str(limit_bytes) if limit_bytes else "max")
        with contextlib.suppress(OSError):  # a kernel that does not account for swap has no such file
            (self.path / "memory.swap.max").write_text("0" if limit_bytes else "max")

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed in it for its memory."""
        words = _words(self.path / "memory.events")
        counts = dict(zip(words[::2], words[1::2], strict=False))
        return counts.get("oom_kill", "0") != "0"

    def kill(self) -> None:
        """SIGKILL all in it, whatever session they made themselves. Linux 5.14; before it nothing."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")


class Cgroups:
    """Those of one server. ``reason``: why it makes none; empty if it does."""

    def __init__(self, root: Path, membership: str, instance: str, earlier: Iterable[str] = ()) -> None:
        found = delegation(root, membership)
        self.reason = found.reason
        self._ours = found.ours
        self._instance = instance
        self._ended: set[Path] = set()  # not empty yet when they were to be removed
        if self._ours is not None:
            self._sweep(self._ours, earlier)
            self.reason = _hand_out_memory(self._ours)
            if self.reason:
                self._ours = None

    def make(self, worker: int, memory_limit_bytes: int) -> Cgroup | None:
        """Return a new cgroup for a worker, None where they cannot be made or nothing is to be limited."""
        self.remove_ended()
        if self._ours is None or not memory_limit_bytes:
            return None
        cgroup = Cgroup(self._ours / f"{LEAF}-{self._instance}-w{worker}")
        try:
            cgroup.path.mkdir()
            cgroup.limit_memory(memory_limit_bytes)
            (cgroup.path / "memory.oom.group").write_text("1")
        except OSError:  # taken away meanwhile: the limit is watched
            self.end(cgroup)
            return None
        return cgroup

    def end(self, cgroup: Cgroup) -> None:
        """Kill what is left in it and remove it: now, or with those that come later."""
        cgroup.kill()
        self._ended.add(cgroup.path)
        self.remove_ended()

    def remove_ended(self) -> None:
        """Remove those that have become empty since."""
        self._ended = {path for path in self._ended if not _is_removed(path)}

    @staticmethod
    def _sweep(ours: Path, earlier: Iterable[str]) -> None:
        """Remove what servers left that died without a word; their processes have been killed."""
        for instance in earlier:
            for path in ours.glob(f"{LEAF}-{instance}-w*"):
                _is_removed(path)


def _hand_out_memory(ours: Path) -> str:
    """Let cgroups below ours limit memory; return why that cannot be. A cgroup with processes cannot hand out."""
    if CONTROLLER in _words(ours / "cgroup.subtree_control"):
        return ""
    leaf = ours / LEAF
    try:
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")
        (ours / "cgroup.subtree_control").write_text(f"+{CONTROLLER}")
    except OSError as error:
        with contextlib.suppress(OSError):
            (ours / "cgroup.procs").write_text("0")
        _is_removed(leaf)
        return f"{ours} cannot hand out memory: {error.strerror}; processes other than the server are in it"
    return ""


def _is_removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
