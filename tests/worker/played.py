"""The worker's surroundings, played by the test: control on one side, a proxy on the other.

Everything blocks and has a deadline. A page is a mapping of relative paths to text; it is written to the
project and, as a build would, to an artifact of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqserver.host.sockets import pair, receive_frame, send_frame
from tqserver.wire.messages import (
    Failed,
    Fork,
    FromChild,
    Loaded,
    PageSpec,
    Preload,
    Ready,
    Started,
    from_child,
    to_zygote,
)

DEADLINE_SECONDS = 20.0
MessageT = TypeVar("MessageT", Ready, Loaded, Failed, Started)


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("page.localhost", timeout=DEADLINE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_SECONDS)
        self.sock.connect(self._path)


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Child:
    """A forked process, as control sees it: its report, its output, its exit."""

    report: socket.socket
    output_fd: int
    spec: PageSpec | None = None
    control: socket.socket | None = None
    pid: int = 0
    loaded: list[str] = field(default_factory=list)
    _output: bytes = b""

    def next(self) -> FromChild | None:
        """Return the next message, None at the end."""
        received = receive_frame(self.report)
        return None if received is None else from_child.decode(received[0])

    def expect(self, kind: type[MessageT]) -> MessageT:
        """Return the next message of this kind; only files read may be told before it."""
        while not isinstance(message := self.next(), kind):
            match message:
                case Started(pid=pid):
                    self.pid = pid
                case Loaded(files=files):
                    self.loaded += files
                case _:
                    raise AssertionError(f"{message}\n{self.output()}")
        return message

    def ready(self) -> Ready:
        return self.expect(Ready)

    def failed(self) -> Failed:
        return self.expect(Failed)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = self.connection()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def connection(self) -> Connection:
        assert self.spec is not None
        return Connection(self.spec.socket)

    def raw(self, text: str) -> socket.socket:
        """Return a connection on which ``text`` was sent, its lines ended as HTTP wants."""
        connection = self.connection()
        connection.connect()
        connection.sock.sendall(textwrap.dedent(text).lstrip().replace("\n", "\r\n").encode())
        return connection.sock

    def output(self, until: str | None = None) -> str:
        """Return what it printed: all that is there now, or all up to ``until``, waited for."""
        while True:
            wait = 0.0 if until is None else DEADLINE_SECONDS
            if until is not None and until.encode() in self._output:
                return self._output.decode()
            if not select.select([self.output_fd], [], [], wait)[0]:
                assert until is None, f"{until!r} is not in {self._output.decode()}"
                return self._output.decode()
            received = os.read(self.output_fd, 65536)
            if not received:
                assert until is None, f"{until!r} is not in {self._output.decode()}"
                return self._output.decode()
            self._output += received

    def wait(self) -> int:
        """Reap it; return its exit code, negative for a signal."""
        poller = os.pidfd_open(self.pid)
        try:
            assert select.select([poller], [], [], DEADLINE_SECONDS)[0], f"{self.pid} does not exit"
        finally:
            os.close(poller)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def stop(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def descriptors(self) -> dict[int, str]:
        found = {}
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed: the worker is at work
                found[int(link.name)] = os.readlink(link)
        return found

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.report.close()
        os.close(self.output_fd)
        if self.control is not None:
            self.control.close()


class PlayedControl:
    """A root zygote, and what control does with it. The test's process must be a subreaper."""

    def __init__(self, project: Path, environment: Mapping[str, str] | None = None) -> None:
        self.project = project
        self.control, theirs = pair()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tqserver.worker.zygote", "--control", str(theirs.fileno())],
            cwd=project,
            env={**os.environ, **(environment or {})},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._children: list[Child] = []
        self._numbers = itertools.count(1)
        self.artifacts = project.parent / "artifacts"

    def write(self, page: str, files: Mapping[str, str]) -> None:
        """Write files of a page, their text dedented."""
        for name, text in files.items():
            path = self.project / "pages" / page / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def build(self, page: str, **settings: object) -> PageSpec:
        """Copy the page to an artifact of its own; return how to serve it."""
        number = next(self._numbers)
        directory = self.project / "pages" / page
        artifact = self.artifacts / str(number)
        shutil.copytree(directory, artifact, ignore=shutil.ignore_patterns("__pycache__"))
        segments = [part for part in page.split("/") if part != "index"]
        given: dict[str, object] = {
            "worker": number,
            "page": page,
            "route": "/" + "/".join(segments),
            "revision": number,
            "project": str(self.project),
            "directory": str(directory),
            "entry": "main.py",
            "artifact": str(artifact),
            "socket": str(self.project.parent / f"w{number}.sock"),
            "mode": "dev",
            "environment": {"TQ_PAGE": page},
            "shutdown_grace_seconds": 5.0,
        }
        return PageSpec(**{**given, **settings})  # type: ignore[arg-type]

    def fork(self, spec: PageSpec, zygote: socket.socket | None = None) -> Child:
        """Fork a worker, from the root unless another zygote is given."""
        return self._fork(zygote or self.control, Fork(page=spec), spec)

    def start(self, page: str, files: Mapping[str, str], **settings: object) -> Child:
        """Write, build and fork a page; return it ready."""
        self.write(page, files)
        child = self.fork(self.build(page, **settings))
        child.ready()
        return child

    def preload(self, modules: list[str], leave_out: list[str] | None = None) -> Child:
        """Fork a zygote that imports ``modules``."""
        ours, theirs = pair()
        fork = Fork(preload=Preload(next(self._numbers), modules, leave_out or []))
        child = self._fork(self.control, fork, None, theirs.fileno())
        theirs.close()
        child.control = ours
        return child

    def _fork(self, zygote: socket.socket, message: Fork, spec: PageSpec | None, *extra: int) -> Child:
        ours, theirs = pair()
        ours.settimeout(DEADLINE_SECONDS)
        output, write_end = os.pipe2(os.O_CLOEXEC)
        send_frame(zygote, to_zygote.encode(message), [theirs.fileno(), write_end, *extra])
        theirs.close()
        os.close(write_end)
        child = Child(ours, output, spec)
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.close()
        self.control.close()
        self.process.wait(DEADLINE_SECONDS)


Start = Callable[..., Child]
