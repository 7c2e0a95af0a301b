"""The command line as a user calls it: a process of its own, in the project's directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.harness import DEADLINE_SECONDS, wait_until


@dataclass(frozen=True, slots=True)
class Result:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its one line of JSON."""
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("TQ", "_TQ", "PYTHON"))}


def run(root: Path, *arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run ``tqserver ARGUMENTS`` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "tqserver", *arguments], cwd=root, env={**environment(), **(env or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    result = Result(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in result.err or "tqserver: " in result.err, result
    return result


class Following:
    """A command that goes on, its lines read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_line(self, part: str) -> str:
        """Wait for a line that contains this."""
        return wait_until(
            lambda: next((line for line in self.lines if part in line), ""), lambda: f"{part!r} in {self.lines[-20:]}"
        )

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def follow(root: Path, *arguments: str) -> Iterator[Following]:
    """Start a command that does not end by itself."""
    process = subprocess.Popen(
        # What a shell runs in the background is deaf to Ctrl-C, and so would be what a suite there starts (POSIX).
        ["env", "--default-signal=INT", sys.executable, "-u", "-m", "tqserver", *arguments],
        cwd=root, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield Following(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
