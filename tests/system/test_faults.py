"""One process dies; what it served is served again, and the rest never notices."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import datetime

import psutil

from tests.system import sources
from tests.system.harness import LOG_FILE, Server, wait_until
from tests.system.load import Load

DIES = """\
import os, threading

def get():
    threading.Timer(0.001, os._exit, [7]).start()
    return "@VERSION@"
"""
DIES_SOON = """\
import os, threading

threading.Timer(0.1, os._exit, [7]).start()

def get():
    return "here"
"""


def test_a_killed_worker_is_replaced(server: Server) -> None:
    """GETs of other pages never fail; of this one none is lost that can be repeated."""
    server.expect_errors("worker.exited")
    server.page("killed", sources.functions("v0"))
    server.page("other", sources.functions("v0"))
    server.start()
    server.wait_body("/killed", "v0")
    server.wait_body("/other", "v0")
    with Load(server.port, "/other", downloads=False) as load:
        for count in range(1, 4):
            pid = server.worker_pid("killed")
            os.kill(pid, signal.SIGKILL)
            exited = server.wait_log("worker.exited", page="killed", pid=pid)
            assert "SIGKILL" in exited["reason"]
            assert server.get("/killed").text == "v0"
            wait_until(
                lambda: len(server.events("worker.ready", page="killed")) == count + 1,  # noqa: B023
                server.tail,
            )
    load.assert_no_failure()


def test_a_request_that_can_be_repeated_survives_the_death_of_its_worker(server: Server) -> None:
    server.expect_errors("worker.exited")
    once = (
        "import os\nfrom pathlib import Path\n\n\n"
        "def get():\n"
        "    if not Path('died').exists():\n"
        "        Path('died').touch()\n"
        "        os._exit(1)\n"
        "    return 'answered'\n\n\n"
        "def post():\n"
        "    os._exit(1)\n"
    )
    server.page("dies", once)
    server.start()
    server.wait_live("dies")
    assert server.get("/dies").text == "answered"
    assert server.get("/dies", "POST", b"not repeatable").status == 502
    assert server.get("/dies").text == "answered"


def test_a_page_that_keeps_dying_is_held_back(server: Server) -> None:
    """Each start waits longer than the one before, the client is told, and a save starts it at once."""
    server.expect_errors("worker.exited", "worker.not_replaced", "page.failed")
    server.page("dying", DIES_SOON)
    server.page("ok", sources.plain("ok"))
    server.start()
    server.wait_live("dying")
    wait_until(lambda: len(server.events("worker.ready", page="dying")) >= 5, server.tail)
    ready = [datetime.fromisoformat(e["timestamp"]) for e in server.events("worker.ready", page="dying")]
    assert ready[4] - ready[3] > ready[1] - ready[0]
    assert server.get("/ok").text == "ok"
    server.edit("pages/dying/main.py", sources.plain("mended"))
    server.wait_body("/dying", "mended")


def test_a_killed_proxy_is_replaced_and_no_connection_refused(server: Server) -> None:
    server.expect_errors("proxy.exited")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    worker = server.worker_pid("page")
    for _ in range(3):
        pid = server.proxy_pid()
        since = server.mark()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid), "the proxy to end")  # noqa: B023
        assert server.get("/page").text == "v0"  # the kernel holds the connection until the next proxy accepts
        server.wait_log("proxy.exited", since)
        server.wait_log("proxy.started", since)
    server.edit("pages/page/main.py", sources.plain("v1"))
    server.wait_body("/page", "v1")
    assert worker != server.worker_pid("page")


def test_a_proxy_that_hangs_is_replaced(server: Server) -> None:
    """Also while there is nothing to acknowledge; a save and who waits for it are not held up for longer."""
    server.expect_errors("proxy.silent", "proxy.exited")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    hung = server.proxy_pid()
    os.kill(hung, signal.SIGSTOP)
    assert server.wait_log("proxy.silent")["pid"] == hung
    server.wait_body("/page", "v0")
    assert server.proxy_pid() != hung


def test_a_save_goes_live_though_a_proxy_hangs(server: Server) -> None:
    server.configure(f"server:\n  port: {server.port}\n  log_file: {LOG_FILE}\n  proxies: 2\n")
    server.expect_errors("proxy.silent", "proxy.exited")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    os.kill(server.proxy_pid(), signal.SIGSTOP)
    server.edit("pages/page/main.py", sources.plain("v1"))
    server.wait_log("revision.live", revision=2)
    server.wait_log("revision.retired", revision=1)
    assert len(server.events("proxy.silent")) == 1


def test_a_killed_zygote_takes_no_worker_along(server: Server) -> None:
    server.expect_errors("zygote.exited")
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_body("/page", "v0")
    worker = server.worker_pid("page")
    with Load(server.port, "/page", downloads=False) as load:
        since = server.mark()
        os.kill(server.events("zygote.started")[-1]["pid"], signal.SIGKILL)
        server.wait_log("zygote.exited", since)
        server.wait_log("zygote.started", since)
        assert server.worker_pid("page") == worker
        server.edit("pages/page/main.py", sources.functions("v1"))
        server.wait_live("page", since)
        server.wait_body("/page", "v1")
        load.switched(1)
    load.assert_no_failure()


def test_a_killed_zygote_costs_an_edit_nothing(server: Server) -> None:
    """Neither one with a page's modules nor the root, though the edit does not wait for another."""
    server.expect_errors("zygote.exited", "zygote.failed")  # the latter: before it was ready
    server.page("page", sources.fastapi("v0"))
    server.start()
    server.wait_body("/page", "v0")
    wait_until(lambda: zygotes(server, "tqserver: zygote 1"), server.tail)
    for number, title in enumerate(("tqserver: zygote 1", "tqserver: zygote", ""), 1):
        for victim in zygotes(server, title):
            with contextlib.suppress(psutil.NoSuchProcess):  # one in between, which lives for a moment
                victim.kill()
        server.edit("pages/page/main.py", sources.fastapi(f"v{number}"))
        server.wait_body("/page", f"v{number}")
    assert server.events("page.failed") == []


def zygotes(server: Server, title: str = "") -> list[psutil.Process]:
    """The zygotes that run, or those of this title."""
    found = []
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if (shown := " ".join(process.cmdline()).strip()).startswith("tqserver: zygote") and title in ("", shown):
                found.append(process)
    return found


def test_a_page_that_hogs_its_process_stops_no_other(server: Server) -> None:
    server.page("hog", "async def get():\n    while True:\n        pass\n")
    server.page("ok", sources.plain("ok"))
    server.configure("workers:\n  default:\n    write_timeout_seconds: 1\n")
    server.start()
    server.wait_live("hog")
    with server.connection() as stuck:
        stuck._http.request("GET", "/hog")
        server.wait_body("/ok", "ok")
        server.edit("pages/ok/main.py", sources.plain("edited"))
        server.wait_body("/ok", "edited")
        assert stuck._http.getresponse().status == 504
    server.edit("pages/hog/main.py", sources.plain("mended"))
    server.wait_body("/hog", "mended")


def test_a_page_whose_need_comes_up_later_comes_up_too(server: Server) -> None:
    """Nobody saves a file for that: what could not start is tried again by itself."""
    server.expect_errors("page.failed")
    server.page("needs", "from pathlib import Path\n\nPath('database').read_text()\n\n\ndef get():\n    return 'up'\n")
    server.start()
    server.wait_log("page.failed", page="needs")
    assert server.get("/needs").status == 503
    server.write("database", "")
    server.wait_body("/needs", "up")
    assert len(server.events("page.failed", page="needs")) == 1, "told once, not at each try"


def test_a_worker_that_could_not_start_ended_for_what_its_page_says(server: Server) -> None:
    server.expect_errors("page.failed")
    server.page("needs", "import not_installed\n")
    server.start()
    exited = server.wait_log("worker.exited", page="needs")
    assert exited["reason"] == "ModuleNotFoundError: No module named 'not_installed'"
