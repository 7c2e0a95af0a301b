"""From the fork to a served page, in order: environment, title, load, adapt, serve.

Whatever the page does wrong on the way is one :class:`Failed`, with the author's file and line, and in the log.
"""

from __future__ import annotations

import importlib
import io
import os
import random
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable

import setproctitle

from tqserver.host.sockets import send_frame
from tqserver.model.errors import TQError
from tqserver.wire.codec import Message
from tqserver.wire.messages import Failed, Loaded, PageSpec, Ready, from_child
from tqserver.worker import adapters, loader, serve, templates

Body = Callable[[socket.socket], int]
_OURS = os.path.dirname(os.path.abspath(__file__))


def warm_up() -> None:
    """Do in the zygote what every worker would do otherwise."""
    importlib.import_module("tqserver.page")  # nearly every page imports it


class Reporter:
    """Tells control; threads of the page may load files too."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._files: list[str] = []
        self._known: set[str] = set()
        self._ready = False

    def send(self, message: Message) -> None:
        """Send a message; if control is gone, this process is about to be killed."""
        with self._lock:
            send_frame(self._sock, from_child.encode(message))

    def file(self, path: str) -> None:
        """A project file outside the page was read."""
        if path in self._known:
            return
        self._known.add(path)
        if self._ready:
            self.send(Loaded([path]))
        else:
            self._files.append(path)

    def ready(self, modules: list[str]) -> None:
        """The page is loaded and its socket accepts."""
        self._ready = True
        self.send(Ready(modules=modules, files=self._files))


def run(spec: PageSpec, report: socket.socket) -> int:
    """Serve one revision; return the exit code."""
    reporter = Reporter(report)
    try:
        _prepare(spec)
        before = frozenset(sys.modules)
        templates.configure(spec.directory, spec.artifact, spec.project, reporter.file)
        module = loader.load_page(spec.directory, spec.entry, spec.artifact, spec.project, reporter.file)
        app, wants_lifespan = adapters.adapt(module, spec.route, spec.mode)
        serve.run(
            app,
            wants_lifespan,
            spec.socket,
            spec.shutdown_grace_seconds,
            lambda: reporter.ready(loader.foreign_modules(spec.project, before)),
        )
    except BaseException as error:
        failed = describe(error, spec)
        print(failed.output, file=sys.stderr, flush=True)
        reporter.send(failed)
        return 1
    return 0


def _prepare(spec: PageSpec) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is control's to handle
    random.seed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a line that was printed is in the log, not in a buffer
    os.environ.update(spec.environment)
    os.chdir(spec.project)
    setproctitle.setproctitle(f"tqserver: worker {spec.page} r{spec.revision}")


def describe(error: BaseException, spec: PageSpec) -> Failed:
    """Return what went wrong, at the deepest line of the page or project that took part in it."""
    if isinstance(error, TQError):
        where = error.location
        return Failed(
            error.message,
            file=where.file if where else "",
            line=where.line if where else 0,
            output=error.output,
            remedy=error.remedy,
        )
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    output = "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames))
    output += "".join(traceback.format_exception_only(error))
    own = [frame for frame in frames if frame.filename.startswith(spec.project + os.sep)]
    file, line = (own[-1].filename, own[-1].lineno or 0) if own else (f"{spec.directory}/{spec.entry}", 0)
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno or 0
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SystemExit):
        message = f"it called sys.exit({error.code!r}) while it was imported"
    return Failed(message, file=file, line=line, output=output, remedy=_remedy(error))


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"install it where tqserver runs: pip install {(error.name or '').partition('.')[0]}"
    if isinstance(error, SystemExit):
        return "a page defines functions or an app; the server calls them"
    return ""


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib"))
