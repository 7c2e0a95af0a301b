"""The server as process 1 of a container: strangers are its children, and no signal has a default effect."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.system import sources
from tests.system.harness import Server, wait_until

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
ORPHANS = """\
import os


def get():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execlp("sh", "sh", "-c", "sleep 0.1; exit 7")
        os._exit(0)
    os.wait()
    return "orphaned"
"""


@pytest.fixture
def inside(server: Server) -> Server:
    """A server that is process 1; what the harness knows as its process is unshare."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is not permitted")
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 20\n")
    server.page("page", sources.functions("v0"))
    server.page("orphans", ORPHANS)
    server.start(wrapper=UNSHARE)
    server.wait_live("page")
    server.wait_live("orphans")
    return server


def first(server: Server) -> psutil.Process:
    """The server, as it is seen from outside."""
    [process] = psutil.Process(server.pid).children()
    numbers = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "NSpid" in line)
    assert numbers.split()[-1] == "1"
    return process


def test_strangers_are_reaped(inside: Server) -> None:
    assert inside.get("/orphans").text == "orphaned"
    process = first(inside)

    def orphans() -> list[psutil.Process]:
        return [child for child in process.children() if child.name() in ("sh", "sleep")]

    wait_until(lambda: not orphans(), lambda: f"{orphans()}")
    assert not inside.events("worker.exited"), "it is none of ours"
    inside.wait_body("/page", "v0")
    os.kill(process.pid, signal.SIGTERM)
    assert inside.wait_exit() == 0


def test_it_cannot_be_replaced_from_within(inside: Server) -> None:
    """When process 1 ends, the kernel kills all that is left in the container."""
    inside.expect_errors("upgrade.failed")
    os.kill(first(inside).pid, signal.SIGUSR2)
    assert "process 1" in inside.wait_log("upgrade.failed")["error"]
    inside.wait_body("/page", "v0")
    os.kill(first(inside).pid, signal.SIGTERM)
    assert inside.wait_exit() == 0


def test_sigterm_drains(inside: Server) -> None:
    with inside.connection() as connection:
        response = connection.begin("/page/download")
        received = response.read(2)
        os.kill(first(inside).pid, signal.SIGTERM)
        inside.wait_log("server.stopping")
        received += response.read()
    assert len(received) == 2 + sources.CHUNKS * sources.CHUNK_BYTES
    assert inside.wait_exit() == 0
    assert inside.events()[-1]["event"] == "server.stopped"
