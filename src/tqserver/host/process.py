"""Processes: spawned, adopted, signalled and reaped through one door.

Control is a child subreaper, so every process below it becomes its child when its parent dies: that is how a
worker forked by a zygote is control's own child (``docs/decisions/0002``), and why a zombie cannot stay. The one
:class:`Reaper` waits for all of them; a status that nobody has claimed yet is kept until it is
(``Started(pid)`` may arrive after the child's death).

Roads not taken: asyncio's child watchers (they wait only for what asyncio spawned, and strangers stay zombies);
a pidfd per child (says nothing about strangers, which a PID 1 in a container must reap too).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import setproctitle

from tqserver.host.limits import impose
from tqserver.model.errors import HostError
from tqserver.wire.messages import Limits

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_UNCLAIMED_KEPT = 1024
_libc = ctypes.CDLL(None, use_errno=True)

FileTarget = int | IO[bytes] | None


def set_title(title: str) -> None:
    """Set what ``ps`` shows, and nothing else.

    setproctitle takes the room of the environment for long titles unless told not to, and with it what
    :func:`processes_with` looks for.
    """
    os.environ["SPT_NOENV"] = "1"
    setproctitle.setproctitle(title)
    del os.environ["SPT_NOENV"]


def become_subreaper() -> None:
    """Make this process the parent of every orphan below it (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise HostError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the parent dies; exit at once if it is dead already.

    The signal is sent when the parent *thread* ends (prctl(2)), so spawn from the main thread.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Child:
    """A process of ours. ``code`` is None while it runs, then its exit code, negative for a signal."""

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.code: int | None = None
        self._popen = popen
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Return the exit code once the process has been reaped."""
        return await asyncio.shield(self._exited)

    def send(self, number: int) -> None:
        """Signal the process; nothing if it has been reaped: its pid may be somebody else's."""
        if self.code is None:
            os.kill(self.pid, number)

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        """Signal the process group that it leads, which may outlive it as long as members are alive."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # the group is empty, or not yet made: then the process has no children to miss

    def reaped(self, code: int) -> None:
        """Record the end; called by the reaper only."""
        self.code = code
        if self._popen is not None:
            self._popen.returncode = code  # or subprocess would wait for a pid that is not ours any more
        if not self._exited.done():
            self._exited.set_result(code)


class Reaper:
    """Waits for every child of this process, known or not."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._unclaimed: OrderedDict[int, int] = OrderedDict()

    def install(self) -> None:
        """Reap from now on, on the running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def close(self) -> None:
        """Stop reaping."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def reap(self) -> None:
        """Collect all that have exited; SIGCHLDs coalesce, so until there is none."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            child = self._children.pop(pid, None)
            if child is not None:
                child.reaped(code)
            else:
                self._keep_unclaimed(pid, code)

    def _keep_unclaimed(self, pid: int, code: int) -> None:
        self._unclaimed[pid] = code
        if len(self._unclaimed) > _UNCLAIMED_KEPT:
            self._unclaimed.popitem(last=False)

    def adopt(self, pid: int) -> Child:
        """Return the child of this pid that something else forked for us; it may have exited already."""
        child = Child(pid)
        code = self._unclaimed.pop(pid, None)
        if code is not None:
            child.reaped(code)
        else:
            self._children[pid] = child
        return child

    def register(self, child: Child) -> None:
        """Claim the exit of a child that was just spawned."""
        self._unclaimed.pop(child.pid, None)  # an older process of the same pid
        self._children[child.pid] = child


_reaper = Reaper()


def reaper() -> Reaper:
    """Return this process's reaper."""
    return _reaper


def spawn(
    argv: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    stdin: FileTarget = subprocess.DEVNULL,
    stdout: FileTarget = None,
    stderr: FileTarget = None,
    pass_fds: Sequence[int] = (),
    die_with_us: bool = True,
    limits: Limits | None = None,
) -> Child:
    """Start a program as the leader of its own session and process group, within ``limits``.

    It is killed when this process dies, unless ``die_with_us`` is False. Raises OSError if it cannot start; if the
    limits cannot be imposed, the reason is in ``stderr``.
    """
    parent = os.getpid()

    def prepare() -> None:
        if limits is not None:
            _impose_or_say(limits)
        if die_with_us:
            die_with_parent(parent)

    try:
        popen = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            preexec_fn=prepare if die_with_us or limits else None,  # noqa: PLW1509 - libc is bound
        )
    except subprocess.SubprocessError as error:  # prepare has raised, which is all that it tells
        raise PermissionError(errno.EPERM, "its limits cannot be imposed") from error
    child = Child(popen.pid, popen)
    _reaper.register(child)
    return child


def _impose_or_say(limits: Limits) -> None:
    """In the child: standard error is its own already."""
    try:
        impose(limits)
    except HostError as error:
        os.write(2, f"{error}\n".encode())
        raise


def python_argv(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in this interpreter.

    ``-P``: a file of the project that is called like a module of the standard library must not be taken for it.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def processes_with(name: str, value: str) -> Iterator[int]:
    """Yield the pids whose initial environment holds ``name=value``, this process excepted.

    What was forked keeps the environment of the last exec: a page that changes its own hides nothing. What it
    executes with another does not carry it; :mod:`tqserver.host.descent` finds that.
    """
    wanted = f"{name}={value}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it has just exited, or it is somebody else's
        if wanted in environment.split(b"\0"):
            yield int(entry.name)


def kill_all_with(name: str, value: str) -> list[int]:
    """SIGKILL every process whose initial environment holds ``name=value``; return their pids."""
    killed = []
    for pid in processes_with(name, value):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed.append(pid)
    return killed


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is resident (proc(5), statm), 0 if there is no such process."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):  # it has just exited: then statm is missing or empty
        return 0
    return int(pages) * resource.getpagesize()
