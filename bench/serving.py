"""What the benchmarks share: a server of ours on a project of the benchmark's, and requests to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

GIVE_UP_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str) -> bytes:
    """Return a whole response; raise OSError if there is none."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while part := sock.recv(65536):
            received += part
    return received


def until_shows(port: int, path: str, wanted: bytes, poll_seconds: float = 0.05) -> None:
    """Return when a response has ``wanted`` in it."""
    end = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < end:
        try:
            if wanted in fetch(port, path):
                return
        except OSError:
            pass
        time.sleep(poll_seconds)
    raise SystemExit(f"nothing answers on port {port}{path}")


class Server:
    """``tqserver`` in a project directory, while a ``with`` block runs. ``port`` is where it answers."""

    def __init__(self, project: Path) -> None:
        self.port = free_port()
        self._project = project

    def __enter__(self) -> Self:
        environment = {**os.environ, "TQSERVER_SERVER__PORT": str(self.port)}
        argv = [sys.executable, "-m", "tqserver", "-quiet"]
        self._process = subprocess.Popen(argv, cwd=self._project, env=environment)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def control(self) -> psutil.Process:
        """Its first process."""
        return psutil.Process(self._process.pid)

    @property
    def proxies(self) -> list[psutil.Process]:
        """Its proxies."""
        family = self.control.children(recursive=True)
        return [child for child in family if "proxy" in " ".join(child.cmdline())]
