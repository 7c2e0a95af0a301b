"""A project in a temporary directory, and the server that runs in it.

Nothing here waits for a fixed time: every wait is for an observed condition, with a deadline that only
a failure meets. After every test
:meth:`Server.finish` holds the server to what it promises to leave behind: nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.system import client
from tests.system.editors import SAVES

DEADLINE_SECONDS = 40.0
POLL_SECONDS = 0.005
OWN, EACH = 20, 4  # descriptors of the supervisor itself, and for each process below it
LOG_FILE = "logs/server.log"
T = TypeVar("T")
Event = dict[str, Any]


def wait_until(
    condition: Callable[[], T], what: str | Callable[[], str] = "", deadline_seconds: float = DEADLINE_SECONDS
) -> T:
    """Return the first value of ``condition`` that is true; fail at the deadline, saying what for."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_seconds:g} s: {what() if callable(what) else what}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One project and its server. Pages are written before or after :meth:`start`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None
        self._seen: set[psutil.Process] = set()
        self._expected: set[str] = set()
        self._log_offset = 0
        self._events: list[Event] = []
        (root / "pages").mkdir(parents=True)
        self.configure()

    # --- the project --------------------------------------------------------------------------------------

    def configure(self, text: str = "") -> None:
        """Write config/server.yaml: ``text``, and a port and a log file unless it has a ``server:``."""
        if not text.lstrip().startswith("server:") and "\nserver:" not in text:
            text = f"server:\n  port: {self.port}\n  log_file: {LOG_FILE}\n" + text
        self.write("config/server.yaml", text)

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def page(self, name: str, text: str, entry: str = "main.py") -> Path:
        """Write a page's entry file."""
        return self.write(f"pages/{name}/{entry}", text)

    def edit(self, path: str, text: str, how: str = "in-place") -> None:
        """Save a file that exists the way an editor does."""
        SAVES[how](self.root / path, text)

    # --- the server ---------------------------------------------------------------------------------------

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()) -> Server:
        """Start the server and wait until it says that it is ready."""
        self.launch(*arguments, env=env, wrapper=wrapper)
        self.wait_log("server.ready")
        return self

    def launch(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        terminal_fd: int | None = None,
    ) -> None:
        """Start the server and wait for nothing. ``terminal_fd``: where it prints, instead of to a file."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TQ", "PYTHON"))}
        with (self.root / "terminal.txt").open("ab") as terminal:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "tqserver", *arguments],
                cwd=self.root, env={**environment, **(env or {})}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal if terminal_fd is None else terminal_fd,
            )  # fmt: skip
        self.exit_code = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def terminal(self) -> str:
        """What it has printed."""
        return (self.root / "terminal.txt").read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor, and to nobody else."""
        self.processes()
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, deadline_seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for the supervisor's end; return its exit code."""
        assert self.process is not None
        try:
            self.exit_code = self.process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not exit; its log ends with\n{self.tail()}") from None
        return self.exit_code

    def stop(self) -> None:
        """Stop as an operator does, and expect a clean end."""
        if self.process is None or self.exit_code is not None:
            return
        self.signal(signal.SIGTERM)
        assert self.wait_exit() == 0, self.tail()

    # --- the log ------------------------------------------------------------------------------------------

    def events(self, event: str = "", since: int = 0, **fields: Any) -> list[Event]:
        """Return the log's lines so far, in order: of this name, from ``since`` on, with these fields."""
        self._read_log()
        return [
            line
            for line in self._events[since:]
            if (not event or line["event"] == event) and all(line.get(name) == value for name, value in fields.items())
        ]

    def mark(self) -> int:
        """Return the place in the log at which the future begins."""
        self._read_log()
        return len(self._events)

    def wait_log(self, event: str, since: int = 0, **fields: Any) -> Event:
        """Wait for a line and return the first."""

        def found() -> list[Event]:
            lines = self.events(event, since, **fields)
            if not lines and self.process is not None and self.process.poll() is not None:
                lines = self.events(event, since, **fields)
                assert lines, f"it exited ({self.process.returncode}) without {event} {fields}:\n{self.tail()}"
            return lines

        return wait_until(found, lambda: f"{event} {fields} in the log; it ends with\n{self.tail()}")[0]

    def tail(self) -> str:
        """The end of what it said, for a failure's message."""
        self._read_log()
        lines = [json.dumps(line)[:600] for line in self._events[-25:]]
        return "\n".join(lines) + "\n--- terminal\n" + self.terminal[-3000:]

    def _read_log(self) -> None:
        with contextlib.suppress(FileNotFoundError), (self.root / LOG_FILE).open("rb") as file:
            file.seek(self._log_offset)
            received = file.read()
            whole = received[: received.rfind(b"\n") + 1]
            self._log_offset += len(whole)
            self._events += [json.loads(line) for line in whole.splitlines()]

    def expect_errors(self, *events: str) -> None:
        """Say which events of level error this test provokes."""
        self._expected.update(events)

    # --- clients ------------------------------------------------------------------------------------------

    def get(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> client.Answer:
        """Ask once on a fresh connection."""
        return client.fetch(self.port, path, method, body, headers)

    def connection(self) -> client.Connection:
        """Open a connection."""
        return client.Connection(self.port)

    def wait_body(self, path: str, body: str, since: str = "") -> None:
        """Wait until ``path`` answers 200 with this body."""
        last: list[client.Answer] = []

        def shows() -> bool:
            last[:] = [self.get(path)]
            return last[0].status == 200 and last[0].text == body

        wait_until(shows, lambda: f"{path} to answer {body!r}; it answers {last}\n{self.tail()}")

    def wait_live(self, page: str, since: int = 0) -> Event:
        """Wait until a revision of the page is live in every proxy."""
        return self.wait_log("revision.live", since, page=page)

    # --- processes ----------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all below it, remembered for the question whether they are gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.pid)
            found = [top, *top.children(recursive=True)]
            self._seen.update(found)
            return found
        return []

    def descriptors(self) -> int:
        """How many descriptors the supervisor holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def zombies(self) -> list[psutil.Process]:
        """Those below the supervisor that nobody has reaped yet."""
        return [process for process in self.processes() if _status(process) == psutil.STATUS_ZOMBIE]

    def worker_pid(self, page: str) -> int:
        """The process that was last seen ready for a page."""
        return int(self.events("worker.ready", page=page)[-1]["pid"])

    def proxy_pid(self) -> int:
        """The process of the last proxy that was started."""
        return int(self.events("proxy.started")[-1]["pid"])

    def survivors(self) -> list[psutil.Process]:
        """What still runs of all that was seen below the supervisor, or runs in the project's directory."""
        alive = {process for process in self._seen if process.is_running() and not _is_dead(process)}
        return sorted(alive | set(_processes_in(self.root)), key=lambda process: process.pid)

    # --- afterwards ---------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Stop, and hold it to what it leaves behind: nothing. Called by the fixture after every test."""
        if self.process is None:
            return
        try:
            if self.exit_code is None and self.process.poll() is None:
                wait_until(lambda: not self.zombies(), lambda: f"no zombie: {self.zombies()}")
                wait_until(lambda: not self._too_many_descriptors(), self._too_many_descriptors)
                self.stop()
            wait_until(lambda: not self.survivors(), lambda: f"no process: {self.survivors()}", 10)
            assert self._socket_files() == []
            self._assert_no_unexpected_error()
        finally:
            self._kill_all()

    def _too_many_descriptors(self) -> str:
        """Say so if the supervisor holds more than its own and those of the processes that it has now."""
        try:
            children = len(psutil.Process(self.pid).children())
            held = sorted(os.readlink(f"/proc/{self.pid}/fd/{number}") for number in os.listdir(f"/proc/{self.pid}/fd"))
        except (OSError, psutil.NoSuchProcess):
            return ""
        return f"{len(held)} descriptors for {children} children: {held}" if len(held) > OWN + EACH * children else ""

    def _socket_files(self) -> list[Path]:
        return [path for path in self.root.glob(".tqserver/**/*") if path.is_socket()]

    def _assert_no_unexpected_error(self) -> None:
        unexpected = [
            line
            for line in self.events()
            if line["level"] in ("error", "critical") and line["event"] not in self._expected
        ]
        assert not unexpected, json.dumps(unexpected, indent=1)[:4000]

    def _kill_all(self) -> None:
        """After a failure: leave the machine as it was."""
        assert self.process is not None
        for process in [*self.processes(), *self.survivors()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def _is_dead(process: psutil.Process) -> bool:
    """A zombie of another parent (init of a container may reap late) runs no more."""
    return _status(process) in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE)


def _processes_in(directory: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(directory):
                yield process
