"""What a worker takes on before it runs anything of the page: its cgroup, its open files, its user.

One way for all runtimes: :func:`impose` is called in the child, after the fork and before the page is loaded or the
program executed. The user comes last, since what stands before it may need a privilege, and nothing needs one after.

Roads not taken: ``prlimit`` from outside (what the page has opened or started by then is not bound by it);
``Popen(user=...)`` (it would be one way for programs and another for what zygotes fork).
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from tqserver.host.identity import is_root
from tqserver.model.errors import HostError
from tqserver.wire.messages import Identity, Limits

_PR_SET_NO_NEW_PRIVS = 38
_NR_OPEN = Path("/proc/sys/fs/nr_open")
_libc = ctypes.CDLL(None, use_errno=True)


def raise_open_files() -> int:
    """Let this process, and what it starts, have as many files open as it may; return how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def most_open_files() -> int:
    """Return the highest limit of open files that a worker can be given: the hard one, for root the kernel's."""
    return int(_NR_OPEN.read_text()) if is_root() else resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def impose(limits: Limits) -> None:
    """Take them on, in this process and for good. Raises :class:`HostError`; then the process must end.

    A change of user clears the parent-death signal (prctl(2)): it is to be asked for anew.
    """
    if limits.cgroup:
        _enter(Path(limits.cgroup))
    if limits.open_files:
        _allow(limits.open_files)
    if limits.identity is not None:
        _become(limits.identity)


def _enter(cgroup: Path) -> None:
    try:
        (cgroup / "cgroup.procs").write_text("0")
    except OSError as error:
        raise HostError(
            f"cannot enter the cgroup {cgroup}: {error.strerror}", remedy="tqserver doctor says whether it is ours"
        ) from error


def _allow(open_files: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    except (OSError, ValueError) as error:
        raise HostError(
            f"cannot allow {open_files} open files: {error}",
            remedy="lower open_files, or raise the server's own limit (LimitNOFILE, ulimit -Hn)",
        ) from error


def _become(identity: Identity) -> None:
    """Groups before the user, who may not change them; setuid(2) drops every capability."""
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise HostError(
            f"cannot become user {identity.name}: {error.strerror}",
            remedy="the server needs CAP_SETUID and CAP_SETGID, which a container may have taken from root",
        ) from error
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:  # no setuid program gives anything back
        raise HostError(f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(ctypes.get_errno())}")
