"""From the fork to a served page, in order: limits, environment, title, load, adapt, serve.

Whatever the page does wrong on the way is one :class:`Failed`, with its file and line, and in the log.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from tqserver.host.limits import impose
from tqserver.host.process import die_with_parent, set_title
from tqserver.host.sockets import send_frame
from tqserver.model.errors import StartError, TQError
from tqserver.wire.codec import Message
from tqserver.wire.messages import Failed, Loaded, PageSpec, Ready, from_child
from tqserver.worker import adapters, loader, serve, templates, traces

FILES_AT_ONCE = 200  # of 4 KiB at most each: the size of a frame is bounded
Body = Callable[[socket.socket], int]


class Reporter:
    """Tells control; threads of the page may load files too."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._files: dict[str, None] = {}  # a set in order
        self._running = False

    def file(self, path: str) -> None:
        """A project file outside the page is being read."""
        with self._lock:
            if path in self._files:
                return
            self._files[path] = None
            if self._running:
                self._send(Loaded([path]))

    def ready(self, modules: list[str]) -> None:
        """The page is loaded and its socket accepts."""
        with self._lock:
            *parts, last = self._parts()
            for part in parts:
                self._send(Loaded(part))
            self._send(Ready(modules=modules, files=last))
            self._running = True

    def failed(self, failed: Failed) -> None:
        """The page cannot be served. What it read may be where the mistake is, so that is told first."""
        with self._lock:
            if self._files:
                for part in self._parts():
                    self._send(Loaded(part))
            self._send(failed)

    def _parts(self) -> list[list[str]]:
        files = list(self._files)
        return [files[start : start + FILES_AT_ONCE] for start in range(0, max(len(files), 1), FILES_AT_ONCE)]

    def _send(self, message: Message) -> None:
        try:
            send_frame(self._sock, from_child.encode(message))
        except ConnectionError:
            self._running = False  # control has stopped to listen: it is stopping this worker


def run(spec: PageSpec, report: socket.socket) -> int:
    """Serve one revision; return the exit code."""
    reporter = Reporter(report)
    entry = f"{spec.directory}/{spec.entry}"
    try:
        _prepare(spec)
        layout = loader.Layout(spec.directory, spec.artifact, spec.project, reporter.file)
        loader.install(layout)
        templates.configure(layout)
        app = adapters.adapt(loader.load_entry(layout, spec.entry), spec.route, spec.mode)
        serve.run(app, spec, lambda: reporter.ready(loader.foreign_modules()))
        atexit._run_exitfuncs()  # the process ends by os._exit, which does not
    except TQError as error:
        where = error.location
        file, line = (where.file, where.line) if where else (entry, 0)
        print(f"{error}\n{error.output}", file=sys.stderr)
        reporter.failed(Failed(error.message, file, line, error.output, error.remedy, isinstance(error, StartError)))
        return 1
    except BaseException as error:  # SystemExit too: the page called sys.exit while it was imported
        failed = traces.describe(error, spec.project, entry, spec.route)
        print(failed.output, file=sys.stderr)
        reporter.failed(failed)
        return 1
    return 0


def _prepare(spec: PageSpec) -> None:
    parent = os.getppid()
    impose(spec.limits)
    die_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the loop runs there is nothing to finish
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()  # Python's own random, uuid and ssl see to it themselves after a fork
    os.environ.update(spec.environment)
    _check_reachable(spec)
    os.chdir(spec.project)
    set_title(f"tqserver: worker {spec.page} r{spec.revision}")


def _check_reachable(spec: PageSpec) -> None:
    """Another user may be kept from the project, or from where its artifacts are."""
    identity = spec.limits.identity
    for directory in (spec.project, spec.artifact) if identity is not None else ():
        if not os.access(directory, os.X_OK):
            assert identity is not None
            raise StartError(
                f"user {identity.name} cannot enter {directory}",
                remedy="let it pass: chmod o+x the directory and each above it (namei -l shows them)",
            )
