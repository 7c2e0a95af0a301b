"""SIGUSR2: a new server takes over from the old one. Nothing is lost; what does not start leaves the old one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system import cli, sources
from tests.system.harness import Server, wait_until
from tests.system.load import Load


class Heir:
    """The server that took over, which is no child of the test."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE, "its end")


@pytest.fixture
def heirs() -> Iterator[list[Heir]]:
    """Those to be stopped however the test ends."""
    found: list[Heir] = []
    yield found
    for heir in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            heir.stop()


def hand_over(server: Server, heirs: list[Heir]) -> int:
    since = server.mark()
    server.signal(signal.SIGUSR2)
    pid = int(server.wait_log("upgrade.done", since)["pid"])
    heirs.append(Heir(pid))
    server._seen.update([heirs[-1].process, *heirs[-1].process.children(recursive=True)])
    assert server.wait_exit() == 0, server.tail()
    return pid


def test_a_new_server_takes_over_under_load(server: Server, heirs: list[Heir]) -> None:
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 20\n")
    server.page("page", sources.functions("v0"))
    server.page("other", sources.plain("ok"))
    server.start()
    server.wait_live("page")
    server.wait_live("other")
    with Load(server.port, "/page") as load:
        since = server.mark()
        pid = hand_over(server, heirs)
        server.edit("pages/page/main.py", sources.functions("v1"))  # the new one follows changes
        wait_until(lambda: server.get("/page").text == "v1", server.tail)
        load.switched(1)
    load.assert_no_failure()
    assert pid != server.pid
    assert (server.root / ".tqserver/lock").read_text().strip() == str(pid)
    revisions = [event["revision"] for event in server.events("revision.live", page="page")]
    assert revisions == sorted(set(revisions)), "revision numbers never repeat"
    assert server.events("server.stopped", since)
    heirs[0].stop()
    wait_until(lambda: not server.survivors(), lambda: f"{server.survivors()}")
    assert (server.root / ".tqserver/lock").read_text() == ""


def test_a_page_that_is_rolled_back_stays_so(server: Server, heirs: list[Heir]) -> None:
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_body("/page", "v0")
    server.edit("pages/page/main.py", sources.functions("v1"))
    server.wait_body("/page", "v1")
    assert cli.run(server.root, "rollback", "/page").code == 0
    with Load(server.port, "/page", downloads=False) as load:
        hand_over(server, heirs)
        assert server.get("/page").text == "v0"
    load.assert_no_failure()
    (page,) = cli.run(server.root, "status", "--json").document["pages"]
    assert page["rolled_back_to"] == 1


def test_a_new_server_that_does_not_start_leaves_the_old_one(server: Server) -> None:
    server.expect_errors("upgrade.failed", "config.invalid")
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    with Load(server.port, "/page") as load:
        since = server.mark()
        server.write("config/server.yaml", "prot: 1\n")
        server.wait_log("config.invalid", since)
        server.signal(signal.SIGUSR2)
        assert "status 3" in server.wait_log("upgrade.failed", since)["error"]
        server.edit("pages/page/main.py", sources.functions("v1"))
        server.wait_body("/page", "v1")
        load.switched(1)
    load.assert_no_failure()


def test_the_command_line_asks_whoever_serves(server: Server, heirs: list[Heir]) -> None:
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_live("page")
    with cli.follow(server.root, "events", "-f") as following:
        following.wait_line("server.ready")
        pid = hand_over(server, heirs)
        following.wait_line("the server has ended")
        assert following.process.wait(10) == 0
    assert cli.run(server.root, "status", "--json").document["server"]["pid"] == pid
    server.edit("pages/page/main.py", sources.plain("v1"))
    assert cli.run(server.root, "wait").code == 0
    assert server.get("/page").text == "v1"
    heirs[0].stop()
    assert not (server.root / ".tqserver/admin.sock").exists()


def test_a_server_that_took_over_hands_over_in_turn(server: Server, heirs: list[Heir]) -> None:
    server.page("page", sources.plain("ok"))
    server.start()
    server.wait_live("page")
    first = hand_over(server, heirs)
    since = server.mark()
    os.kill(first, signal.SIGUSR2)
    wait_until(lambda: server.events("upgrade.done", since), server.tail)
    heirs.append(Heir(int(server.events("upgrade.done", since)[0]["pid"])))
    wait_until(lambda: not psutil.pid_exists(first) or heirs[0].process.status() == psutil.STATUS_ZOMBIE, server.tail)
    assert server.get("/page").text == "ok"


def test_a_stop_during_the_change_stops_both(server: Server) -> None:
    server.page("slow", "import time\n\ntime.sleep(3)\n\n\ndef get():\n    return 'ok'\n")
    server.start()
    server.wait_live("slow")
    server.signal(signal.SIGUSR2)
    wait_until(lambda: len(server.events("server.ready")) == 2, server.tail)
    for process in psutil.Process(server.pid).children():
        server._seen.update(process.children(recursive=True))
    server.stop()


# --- the service manager ----------------------------------------------------------------------------------


def test_what_a_service_manager_is_told(server: Server, tmp_path: Path) -> None:
    """READY=1 when it serves, not before; the watchdog while the loop turns; STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        server.page("shows", "import os\n\ndef get():\n    return os.environ.get('NOTIFY_SOCKET', 'none')\n")
        server.launch(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        first = manager.recv(4096).decode().splitlines()
        assert first[:2] == ["READY=1", f"MAINPID={server.pid}"]
        assert server.get("/shows").text != str(tmp_path / "notify"), "a page must not speak for the server"
        assert manager.recv(4096) == b"WATCHDOG=1"
        assert manager.recv(4096) == b"WATCHDOG=1"
        server.signal(signal.SIGTERM)
        said = [manager.recv(4096)]
        while said[-1] == b"WATCHDOG=1":
            said.append(manager.recv(4096))
        assert said[-1] == b"STOPPING=1"
        assert server.wait_exit() == 0


def test_a_service_manager_that_believes_the_main_process_alone(
    server: Server, heirs: list[Heir], tmp_path: Path
) -> None:
    """NotifyAccess=main: the old server names the new one, which from then on must keep the watchdog content."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)

        def said() -> tuple[int, bytes]:
            text, ancillary, *_ = manager.recvmsg(4096, 64)
            pid: int = struct.unpack("3i", ancillary[0][2])[0]
            return pid, text

        server.page("page", sources.plain("ok"))
        server.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        heir = hand_over(server, heirs)
        messages = [said()]
        while messages[-1] != (heir, b"WATCHDOG=1") or (server.pid, f"MAINPID={heir}".encode()) not in messages:
            messages.append(said())
    heirs[0].stop()


def test_a_socket_that_the_service_manager_listens_on(server: Server) -> None:
    """The port in the configuration is not opened: the socket that was passed is what clients know."""
    server.page("page", sources.plain("ok"))
    passes = (
        "import os, socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "os.dup2(listener.fileno(), 3)\nos.set_inheritable(3, True)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'tqserver'])\n"
    )
    port, server.port = server.port, 1  # a port that it could not open
    server.configure("server:\n  port: 0\n  log_file: logs/server.log\n")
    server.port = port
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TQ", "PYTHON"))}
    with (server.root / "terminal.txt").open("ab") as terminal:
        server.process = subprocess.Popen(
            [sys.executable, "-c", passes, str(port)], cwd=server.root, env=environment,
            stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
    assert server.wait_log("server.ready")["url"].endswith(f":{port}")
    server.wait_body("/page", "ok")
