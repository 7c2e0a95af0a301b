"""A zygote: one thread, no event loop, modules imported; forks workers and further zygotes.

``python -m tqserver.worker.zygote --control FD`` is the root. It forks twice, so that the child is adopted by
control, a subreaper (``docs/decisions/0002``), and is reaped by the one that decides about it.

The root is also the guard: if control ends without a word, it kills whatever carries the server's TQ_INSTANCE.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import setproctitle

from tqserver.host.process import die_with_parent, kill_all_with
from tqserver.host.rundir import INSTANCE_VARIABLE
from tqserver.host.sockets import receive_frame, send_frame
from tqserver.wire.codec import Message
from tqserver.wire.messages import (
    ForkFailed,
    Preload,
    Ready,
    Started,
    from_child,
    from_zygote,
    to_zygote,
)
from tqserver.worker import child as page_child

THREADS = Path("/proc/self/task")
EXIT_NOT_FORKABLE = 3


def main() -> None:
    """Run the root zygote."""
    parser = argparse.ArgumentParser(prog="tqserver.worker.zygote")
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is control's to handle
    setproctitle.setproctitle("tqserver: zygote")
    page_child.warm_up()
    zygote = Zygote(control, os.getppid())
    zygote.serve()
    instance = os.environ.get(INSTANCE_VARIABLE)
    if instance:
        kill_all_with(INSTANCE_VARIABLE, instance)


class Zygote:
    """Serves fork requests until its control socket ends."""

    def __init__(self, control: socket.socket, control_pid: int) -> None:
        self._control = control
        self._control_pid = control_pid

    def serve(self) -> None:
        """Answer requests in order."""
        gc.collect()
        gc.freeze()  # the collector would write to pages that children share
        while (frame := receive_frame(self._control)) is not None:
            payload, descriptors = frame
            request = to_zygote.decode(payload)
            try:
                if request.page is not None:
                    page = request.page
                    self._fork(descriptors, functools.partial(page_child.run, page))
                elif request.preload is not None:
                    self._fork(descriptors, _Preloading(request.preload, descriptors, self._control_pid))
            except OSError as error:
                send_frame(self._control, from_zygote.encode(ForkFailed(str(error))))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _fork(self, descriptors: Sequence[int], body: page_child.Body) -> None:
        """Fork a child of control that runs ``body(report socket)`` and exits."""
        threads = len(list(THREADS.iterdir()))
        if threads != 1:
            raise OSError(f"the zygote has {threads} threads: a fork would lose all but one")
        between = os.fork()
        if between == 0:
            try:
                if os.fork() == 0:
                    self._become(descriptors, body)
            finally:
                os._exit(0)
        os.waitpid(between, 0)

    def _become(self, descriptors: Sequence[int], body: page_child.Body) -> None:
        """In the child: wait to be adopted, cut what ties it to the zygote, run."""
        code = 1
        try:
            between = os.getppid()
            while os.getppid() == between and between != self._control_pid:
                os.sched_yield()  # the one in between is exiting at this moment
            die_with_parent(self._control_pid)
            report, output, *others = descriptors
            keep = _rearrange(report, output, others)
            sock = socket.socket(fileno=keep)
            send_frame(sock, from_child.encode(Started(os.getpid())))
            code = body(sock)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _rearrange(report: int, output: int, others: Sequence[int]) -> int:
    """Make ``output`` 1 and 2, nothing 0, and close all but these, ``report`` and ``others``."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    kept = sorted({report, *others})
    low = 3
    for descriptor in kept:
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
    return report


class _Preloading:
    """The body of a zygote below the root: import, report, serve."""

    def __init__(self, preload: Preload, descriptors: Sequence[int], control_pid: int) -> None:
        self._preload = preload
        self._control = descriptors[2]
        self._control_pid = control_pid

    def __call__(self, report: socket.socket) -> int:
        setproctitle.setproctitle(f"tqserver: zygote {self._preload.zygote}")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        modules, guilty = self._import_all()
        ready = Ready(modules=modules, left_out=[guilty] if guilty else [])
        _send(report, ready)
        report.close()
        if guilty:
            return EXIT_NOT_FORKABLE
        Zygote(socket.socket(fileno=self._control), self._control_pid).serve()
        return 0

    def _import_all(self) -> tuple[list[str], str]:
        """Import one by one; return what was imported and the module that started a thread, if one did."""
        imported: list[str] = []
        for module in self._preload.modules:
            if module in self._preload.leave_out:
                continue
            try:
                importlib.import_module(module)
            except Exception as error:
                print(f"not preloaded: {module}: {error!r}", file=sys.stderr)
                continue
            if len(list(THREADS.iterdir())) != 1:
                return imported, module
            imported.append(module)
        return imported, ""


def _send(sock: socket.socket, message: Message) -> None:
    send_frame(sock, from_child.encode(message))


if __name__ == "__main__":
    main()
