"""A zygote: one thread, no event loop, modules imported; forks workers and further zygotes.

``python -m tqserver.worker.zygote --control FD`` is the root. It forks twice, so that the child is adopted by
control, a subreaper (``docs/decisions/0002``), and is reaped by the one that decides about it.

The root is also the guard: if control ends without a word, it kills all that has the server's TQ_INSTANCE.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tqserver.host.process import die_with_parent, kill_all_with, set_title
from tqserver.host.rundir import INSTANCE_VARIABLE
from tqserver.host.sockets import receive_frame, send_frame
from tqserver.wire.messages import Failed, Preload, Ready, Started, from_child, to_zygote
from tqserver.worker import child as page_child
from tqserver.worker import warmth

EXIT_NOT_FORKABLE = 3
_GUARD_ROUNDS = 100


def main() -> None:
    """Run the root zygote."""
    parser = argparse.ArgumentParser(prog="tqserver.worker.zygote")
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    control_pid = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is control's to handle
    _forget_working_directory()
    _print_lines_at_once()
    set_title("tqserver: zygote")
    warmth.warm_up()
    Zygote(control, control_pid).serve()
    instance = os.environ.get(INSTANCE_VARIABLE)
    if instance:
        kill_all(instance)


def _print_lines_at_once() -> None:
    """A page's print is in its log when it returns, though the log is a pipe, and never raises."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _forget_working_directory() -> None:
    """Undo what ``-m`` did to sys.path: project code is no zygote's business, whatever it is called."""
    if not sys.flags.safe_path and sys.path[0] == str(Path.cwd()):
        del sys.path[0]


def kill_all(instance: str) -> None:
    """Kill all that carries ``instance``, and what was being forked meanwhile."""
    for _ in range(_GUARD_ROUNDS):
        if not kill_all_with(INSTANCE_VARIABLE, instance):
            return
        os.sched_yield()


class Zygote:
    """Serves fork requests until its control socket ends."""

    def __init__(self, control: socket.socket, control_pid: int) -> None:
        self._control = control
        self._control_pid = control_pid

    def serve(self) -> None:
        """Answer requests in order."""
        gc.collect()
        gc.freeze()  # the collector would write to pages that children share
        try:
            while (received := receive_frame(self._control)) is not None:
                self._answer(*received)
        except (EOFError, ConnectionError):
            return  # control has died in the middle of a word

    def _answer(self, payload: bytes, descriptors: Sequence[int]) -> None:
        request = to_zygote.decode(payload)
        try:
            if (page := request.page) is not None:
                self._fork(descriptors, lambda report: page_child.run(page, report))
            elif request.preload is not None:
                self._fork(descriptors, _Preloading(request.preload, descriptors, self._control_pid))
        except OSError as error:
            _refuse(descriptors[0], str(error))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, descriptors: Sequence[int], body: page_child.Body) -> None:
        """Fork a child of control that runs ``body(report socket)`` and exits. Raises OSError."""
        if (threads := _threads()) != 1:
            raise OSError(f"the zygote has {threads} threads: a fork would lose all but one")
        between = os.fork()
        if between == 0:
            self._fork_again(descriptors, body)
        _, status = os.waitpid(between, 0)
        if code := os.waitstatus_to_exitcode(status):
            raise OSError(code, os.strerror(code))

    def _fork_again(self, descriptors: Sequence[int], body: page_child.Body) -> None:
        """In the process in between: fork, and exit with the error number if that fails."""
        between = os.getpid()
        code = 1
        try:
            child = os.fork()
            code = self._become(between, descriptors, body) if child == 0 else 0
        except OSError as error:
            code = error.errno or code
        finally:
            os._exit(code)

    def _become(self, between: int, descriptors: Sequence[int], body: page_child.Body) -> int:
        """In the child: cut what ties it to the zygote, wait to be adopted, run; return the exit code."""
        try:
            report, output, *others = descriptors
            _detach(report, output, others)
            while os.getppid() == between:
                os.sched_yield()  # the one in between is exiting at this moment
            die_with_parent(self._control_pid)
            sock = socket.socket(fileno=report)
            send_frame(sock, from_child.encode(Started(os.getpid())))
            return body(sock)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def _refuse(report: int, reason: str) -> None:
    """Say on the report socket of a child that it could not be forked."""
    failed = Failed(f"no process can be forked: {reason}", remedy="check the limit of processes (ulimit -u)")
    with socket.socket(fileno=os.dup(report)) as sock, contextlib.suppress(ConnectionError):
        send_frame(sock, from_child.encode(failed))


def _detach(report: int, output: int, others: Sequence[int]) -> None:
    """Begin a session; make ``output`` 1 and 2, nothing 0, and close all but these and those given."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    low = 3
    for descriptor in sorted({report, *others}):
        os.set_inheritable(descriptor, False)
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


class _Preloading:
    """The body of a zygote below the root: import, report, serve."""

    def __init__(self, preload: Preload, descriptors: Sequence[int], control_pid: int) -> None:
        self._preload = preload
        self._descriptors = descriptors
        self._control_pid = control_pid

    def __call__(self, report: socket.socket) -> int:
        set_title(f"tqserver: zygote {self._preload.zygote}")
        gc.unfreeze()
        modules, guilty = self._import_all()
        send_frame(report, from_child.encode(Ready(modules=modules, left_out=[guilty] if guilty else [])))
        report.close()
        if guilty:
            return EXIT_NOT_FORKABLE
        Zygote(socket.socket(fileno=self._descriptors[2]), self._control_pid).serve()
        return 0

    def _import_all(self) -> tuple[list[str], str]:
        """Import one by one; return what was imported, and the module after which no fork is safe, if any."""
        imported: list[str] = []
        descriptors = _descriptors()
        for module in self._preload.modules:
            if module in self._preload.leave_out:
                continue
            is_imported = _try_import(module)
            if _threads() != 1 or _descriptors() - descriptors:
                # A thread does not survive a fork, and a child closes every descriptor.
                print(f"left out: {module}: importing it starts a thread or opens a file", file=sys.stderr)
                return imported, module
            if is_imported:
                imported.append(module)
        return imported, ""


def _try_import(module: str) -> bool:
    try:
        importlib.import_module(module)
    except BaseException as error:  # even sys.exit: a hint that does not hold is none
        print(f"not preloaded: {module}: {error!r}", file=sys.stderr)
        return False
    return True


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _descriptors() -> set[str]:
    """Return the open descriptors, with what each is (the one that reads the directory is gone by then)."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
