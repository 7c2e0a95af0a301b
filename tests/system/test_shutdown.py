"""The end: in order when asked, at once when asked twice, and clean even when killed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.system import cli, client, sources
from tests.system.harness import Server, wait_until

SETTINGS = "workers:\n  default:\n    drain_timeout_seconds: 30\n"
ENDLESS = """\
import asyncio


async def get():
    while True:
        yield b"."
        await asyncio.sleep(0.01)
"""
GONE_WITHIN_SECONDS = 1.0  # after kill -9 of the supervisor: a promise of ours


def site(server: Server) -> Server:
    server.configure(SETTINGS)
    server.page("python", sources.functions("v0"))
    server.page("go", sources.go("v0"), "main.go")
    server.start()
    server.wait_body("/python", "v0")
    server.wait_body("/go", "v0")
    return server


class Download:
    """A download in progress, read to its end by a thread."""

    def __init__(self, server: Server, path: str) -> None:
        self._connection = server.connection()
        self._response = self._connection.begin(path)
        self.body = self._response.read(2)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.body += self._response.read()
        except Exception as error:
            self.error = error

    def finish(self) -> None:
        self._thread.join(client.TIMEOUT_SECONDS)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("page", ["python", "go"])
def test_it_finishes_what_is_in_flight(server: Server, number: signal.Signals, page: str) -> None:
    site(server)
    download = Download(server, f"/{page}/download")
    server.signal(number)
    server.wait_log("server.stopping")
    download.finish()
    assert download.error is None
    assert len(download.body) == 2 + sources.CHUNKS * sources.CHUNK_BYTES
    assert server.wait_exit() == 0
    assert server.events()[-1]["event"] == "server.stopped"


@contextmanager
def endless_stream(server: Server, drain_seconds: float) -> Iterator[None]:
    """Start a server, and a response that has begun and never ends."""
    server.configure(f"workers:\n  default:\n    drain_timeout_seconds: {drain_seconds}\n")
    server.page("endless", ENDLESS)
    server.start()
    server.wait_live("endless")
    with server.connection() as connection:
        assert connection.begin("/endless").read(3) == b"..."
        yield


def test_it_says_what_it_waits_for(server: Server) -> None:
    with endless_stream(server, drain_seconds=0.1):
        wait_until(lambda: in_flight(server) == 1, server.tail)
        server.signal(signal.SIGINT)
        stopping = server.wait_log("server.stopping")
        assert (stopping["in_flight"], stopping["deadline_seconds"]) == (1, 0.1)
        server.wait_exit()


def in_flight(server: Server) -> int:
    """What the proxies have counted."""
    traffic = cli.run(server.root, "status", "--json").document["pages"][0]["traffic"]
    return int(traffic["in_flight"]) if traffic is not None else 0


def test_a_second_interrupt_stops_at_once(server: Server) -> None:
    with endless_stream(server, drain_seconds=300):
        server.signal(signal.SIGINT)
        server.wait_log("server.stopping")
        assert server.process is not None
        assert server.process.poll() is None
        server.signal(signal.SIGINT)
        server.wait_exit()
    assert server.events("server.stopped")


def test_a_drain_has_a_deadline(server: Server) -> None:
    with endless_stream(server, drain_seconds=0.2):
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0


FORKS = """\
import os
import time

CHILD = os.fork()
if CHILD == 0:
    os.setsid()  # out of its parent's session and group: no signal to those reaches it
    while True:
        time.sleep(3600)


def get():
    return str(CHILD)
"""


def test_what_a_worker_forked_ends_with_a_killed_supervisor_too(server: Server) -> None:
    server.page("forks", FORKS)
    server.start()
    server.wait_live("forks")
    forked = psutil.Process(int(server.get("/forks").text))
    assert is_running(forked)
    assert server.process is not None
    server.process.kill()
    server.wait_exit()
    wait_until(lambda: not is_running(forked), "the end of what the worker forked")
    since = server.mark()
    server.launch()  # the next start cleans what files were left
    server.wait_log("server.ready", since)


def test_what_a_worker_forked_ends_with_the_server(server: Server) -> None:
    server.page("forks", FORKS)
    server.start()
    server.wait_live("forks")
    forked = psutil.Process(int(server.get("/forks").text))
    server.stop()
    assert not is_running(forked)
    assert server.events("leftovers.killed")[0]["pids"] == [forked.pid]


HIDES = """\
import os
import subprocess

CHILD = subprocess.Popen(["sleep", "3600"], env={}, start_new_session=True)


def get():
    return str(CHILD.pid)


def post():
    '''A daemon: its parent has ended.'''
    shell = ["sh", "-c", "setsid sleep 3600 >/dev/null 2>&1 & echo $!"]
    return subprocess.run(shell, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True).stdout.strip()
"""


def test_what_hides_ends_with_its_worker_or_with_the_server(server: Server) -> None:
    """It has an environment and a session of its own. A daemon cannot be told from that of another worker."""
    server.page("hides", HIDES)
    server.start()
    server.wait_live("hides")
    child, daemon = (psutil.Process(int(server.get("/hides", method).text)) for method in ("GET", "POST"))
    server.edit("pages/hides/main.py", HIDES + "\n")
    assert server.wait_log("leftovers.killed", page="hides")["pids"] == [child.pid]
    wait_until(lambda: not is_running(child), "the end of what the old revision had started")
    second = psutil.Process(int(server.get("/hides").text))
    assert is_running(daemon)
    server.stop()
    assert not is_running(second)
    assert not is_running(daemon)


def test_what_ran_before_the_server_in_its_process_is_left_alone(server: Server) -> None:
    server.page("page", sources.plain("v0"))
    server.start(wrapper=["sh", "-c", 'sleep 3600 & exec "$0" "$@"'])
    (stranger,) = [process for process in server.processes() if process.name() == "sleep"]
    server.stop()
    assert is_running(stranger)
    stranger.kill()


def is_running(process: psutil.Process) -> bool:
    """A zombie waits for whoever adopted it after control; it runs nothing and holds nothing."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_nothing_is_alive_one_second_after_kill_9(server: Server) -> None:
    site(server)
    family = server.processes()
    assert len(family) >= 5  # control, a proxy, a zygote, a worker of each page
    assert server.process is not None
    server.process.kill()
    server.wait_exit()
    _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_SECONDS)
    assert [process for process in alive if is_running(process)] == []
    assert server.survivors() == []
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/python", "v0")
    server.wait_body("/go", "v0")
    live = {line["worker"] for line in server.events("worker.ready", since)}
    assert len(live) == 2
    reused = server.events("build.done", since)
    assert all(line["reused"] for line in reused), reused


def test_kill_9_of_everything_but_the_workers(server: Server) -> None:
    """Neither the supervisor nor its guard can clear up: the kernel does, or the next start."""
    site(server)
    workers = {server.worker_pid("python"), server.worker_pid("go")}
    for process in server.processes():
        if process.pid not in workers:
            process.kill()
    server.wait_exit()
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/python", "v0")
    wait_until(lambda: not [pid for pid in workers if _runs(pid)], "the workers of the killed server to end")


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_stop_during_a_build(server: Server) -> None:
    server.page("go", sources.go("v0"), "main.go")
    server.start()
    server.wait_log("build.started", page="go")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_a_stop_while_a_worker_starts(server: Server) -> None:
    server.page("slow", "import time\ntime.sleep(3600)\n")
    server.start()
    server.wait_log("build.done", page="slow")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_a_new_start_keeps_no_socket_of_the_old(server: Server) -> None:
    site(server)
    assert server.process is not None
    server.processes()
    server.process.kill()
    server.wait_exit()
    left = set((server.root / ".tqserver/run").glob("*"))
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/python", "v0")
    server.stop()
    assert not [path for path in left if path.exists()]
