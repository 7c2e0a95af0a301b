"""As many workers as are wanted, each well and within its limits; nothing is lost when they come and go."""

from __future__ import annotations

import os
import threading
import time

import psutil

from tests.system import client, sources
from tests.system.harness import Server, wait_until
from tests.system.load import Load

SLOW = "import asyncio, os\n\n\nasync def get():\n    await asyncio.sleep(0.3)\n    return str(os.getpid())\n"
RECYCLING_SECONDS = float(os.environ.get("RECYCLING_SECONDS", "2"))  # `make soak` has more


def default(**settings: object) -> str:
    return "workers:\n  default:\n" + "".join(f"    {name}: {value}\n" for name, value in settings.items())


def ready(server: Server, page: str) -> int:
    """How many workers of a page run now."""
    return len(server.events("worker.ready", page=page)) - len(server.events("worker.exited", page=page))


def ask_at_once(server: Server, path: str, count: int) -> list[client.Answer]:
    answers: list[client.Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(server.get(path))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_page_that_sleeps_until_somebody_asks(server: Server) -> None:
    server.configure(default(min_workers=0, idle_stop_seconds=0.5))
    server.page("asleep", sources.functions("v0"))
    server.page("asleep/go-not", sources.plain("other"))
    server.start()
    server.wait_live("asleep")
    assert ready(server, "asleep") == 0
    for _ in range(2):
        answers = ask_at_once(server, "/asleep", 5)
        assert [(answer.status, answer.text) for answer in answers] == [(200, "v0")] * 5
        wait_until(lambda: ready(server, "asleep") == 0, server.tail)
    assert ready(server, "asleep/go-not") == 0
    assert len(server.events("worker.ready", page="asleep")) == 2


def test_a_request_that_comes_before_the_page_is_built_wakes_it(server: Server) -> None:
    """It is said once that requests wait, and then there is no pool yet that could hear it."""
    server.configure(
        "workers:\n  startup_delay_ms: 1000\n  default:\n    min_workers: 0\n    start_timeout_seconds: 10\n"
    )
    server.page("early", sources.plain("v0"))
    server.start()
    assert not server.events("revision.live", page="early")
    answer = server.get("/early")
    assert (answer.status, answer.text) == (200, "v0")


def test_an_edit_of_a_sleeping_page_is_tried_at_once(server: Server) -> None:
    """A save that does not load is told when it is saved, not when somebody asks."""
    server.expect_errors("page.failed")
    server.configure(default(min_workers=0))
    server.page("asleep", sources.plain("v0"))
    server.start()
    server.wait_live("asleep")
    since = server.mark()
    server.edit("pages/asleep/main.py", "raise RuntimeError('no')\n")
    assert "no" in server.wait_log("page.failed", since, page="asleep")["error"]
    server.edit("pages/asleep/main.py", sources.plain("v1"))
    server.wait_body("/asleep", "v1")


def test_a_sleeping_page_that_does_not_load_says_why(server: Server) -> None:
    server.expect_errors("worker.not_replaced")
    server.configure(default(min_workers=0))
    server.page("asleep", "raise RuntimeError('not today')\n")
    server.page("ok", sources.plain("ok"))
    server.start()
    server.wait_live("asleep")
    answer = server.get("/asleep")
    assert answer.status == 503
    assert "not today" in answer.text
    assert server.get("/ok").text == "ok"
    server.edit("pages/asleep/main.py", sources.plain("mended"))
    server.wait_body("/asleep", "mended")


def test_more_workers_for_more_requests_and_fewer_for_fewer(server: Server) -> None:
    server.configure(default(max_workers=3, concurrency=1, idle_stop_seconds=1))
    server.page("slow", SLOW)
    server.start()
    server.wait_live("slow")
    assert ready(server, "slow") == 1
    pids = set()
    while ready(server, "slow") < 3 or len(pids) < 3:
        answers = ask_at_once(server, "/slow", 6)
        assert {answer.status for answer in answers} == {200}
        pids |= {answer.text for answer in answers}
    assert ready(server, "slow") == 3, "never more than max_workers"
    wait_until(lambda: ready(server, "slow") == 1, server.tail)
    assert server.get("/slow").status == 200


def test_scaling_under_load_loses_nothing(server: Server) -> None:
    server.configure(default(max_workers=4, concurrency=1, idle_stop_seconds=0.2, drain_timeout_seconds=20))
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    with Load(server.port, "/page") as load:
        wait_until(lambda: len(server.events("pool.scaled", page="page")) >= 6, server.tail)
        server.edit("pages/page/main.py", sources.functions("v1"))
        server.wait_body("/page", "v1")
    load.assert_no_failure()


def test_requests_beyond_the_queue_are_refused(server: Server) -> None:
    server.configure(default(min_workers=0, queue=2))
    server.page("slow", "import time\n\ntime.sleep(1.5)\n\n\ndef get():\n    return 'ok'\n")
    server.start()
    server.wait_live("slow")
    answers = ask_at_once(server, "/slow", 5)
    assert sorted(answer.status for answer in answers) == [200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status == 503)
    assert int(refused.headers["retry-after"]) > 0


def test_recycling_under_load_loses_nothing(server: Server) -> None:
    server.configure(default(max_requests=50, drain_timeout_seconds=20))
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    until = time.monotonic() + RECYCLING_SECONDS
    with Load(server.port, "/page") as load:
        wait_until(lambda: len(server.events("worker.recycled", page="page")) >= 4, server.tail)
        wait_until(lambda: time.monotonic() > until, "the end of the load")
    load.assert_no_failure()
    assert "max_requests" in server.events("worker.recycled", page="page")[0]["reason"]
    wait_until(lambda: ready(server, "page") == 1, server.tail)


GROWS = """\
import os

held = []


def get(request):
    held.append(bytearray(os.urandom(1024)) * 1024 * int(request.query_params["mib"]))
    return str(os.getpid())
"""


def test_a_worker_near_its_memory_limit_is_replaced_in_order(server: Server) -> None:
    server.configure(default(memory_limit='"200MiB"'))
    server.page("grows", GROWS)
    server.start()
    server.wait_live("grows")
    first = server.get("/grows?mib=170").text
    recycled = server.wait_log("worker.recycled", page="grows")
    assert "memory_limit" in recycled["reason"]
    wait_until(lambda: server.get("/grows?mib=0").text != first, server.tail)
    wait_until(lambda: not psutil.pid_exists(int(first)), server.tail)


def test_a_worker_beyond_its_memory_limit_is_killed_and_the_reason_named(server: Server) -> None:
    server.expect_errors("worker.exited")
    server.configure(default(memory_limit='"200MiB"'))
    server.page("grows", GROWS)
    server.page("ok", sources.plain("ok"))
    server.start()
    server.wait_live("grows")
    server.get("/grows?mib=300")
    assert server.wait_log("worker.exited", page="grows", level="error")["reason"].startswith("memory limit")
    assert server.get("/grows?mib=0").status == 200
    assert server.get("/ok").text == "ok"


def test_a_limit_that_is_set_while_it_runs_holds_for_workers_that_run(server: Server) -> None:
    server.page("grows", GROWS)
    server.start()
    server.wait_live("grows")
    first = server.get("/grows?mib=170").text
    since = server.mark()
    server.configure(default(memory_limit='"200MiB"'))
    assert "memory_limit" in server.wait_log("worker.recycled", since, page="grows")["reason"]
    wait_until(lambda: server.get("/grows?mib=0").text != first, server.tail)


def test_a_worker_that_answers_no_probe_is_replaced(server: Server) -> None:
    """Its process is there and its port accepts; only what clients ask is never answered."""
    server.configure(default(health_interval_seconds=0.3))
    server.page(
        "hangs", "import time\n\n\nasync def get():\n    time.sleep(1000)\n\n\nasync def post():\n    return 'ok'\n"
    )
    server.start()
    server.wait_live("hangs")
    first = server.worker_pid("hangs")
    with server.connection() as stuck:
        stuck._http.request("GET", "/hangs")
        recycled = server.wait_log("worker.recycled", page="hangs")
        assert "health" in recycled["reason"]
        wait_until(lambda: server.worker_pid("hangs") != first, server.tail)
        assert server.get("/hangs", "POST").text == "ok"
        assert stuck._http.getresponse().status in (502, 504), "cut by the drain deadline, or by silence"
    wait_until(lambda: not psutil.pid_exists(first), server.tail)


def test_a_worker_that_listens_no_more_is_replaced_when_a_request_finds_out(server: Server) -> None:
    """Its process is there; no probe is due for a long time."""
    server.configure(default(health_interval_seconds=600))
    server.page(
        "deaf",
        "import os\n\n\ndef get():\n    return 'ok'\n\n\ndef post():\n    os.execv('/bin/sleep', ['sleep', '600'])\n",
    )
    server.start()
    server.wait_live("deaf")
    assert server.get("/deaf", "POST", b"x").status == 502
    answer = server.get("/deaf")  # held until a worker takes it
    assert (answer.status, answer.text) == (200, "ok")
    assert "nobody listens" in server.wait_log("worker.recycled", page="deaf")["reason"]


def test_a_page_whose_requests_time_out_is_replaced(server: Server) -> None:
    """Its probe is answered; what clients ask is not."""
    server.configure(default(write_timeout_seconds=0.5, health_interval_seconds=1))
    server.page(
        "hangs",
        "import asyncio\n\n\nasync def get(request):\n    if request.url.path == '/hangs':\n"
        "        await asyncio.sleep(1000)\n    return 'well'\n",
    )
    server.start()
    server.wait_live("hangs")
    assert {answer.status for answer in ask_at_once(server, "/hangs", 4)} == {504}
    assert "timed out" in server.wait_log("worker.recycled", page="hangs")["reason"]


def test_a_page_that_keeps_dying_is_given_up_until_it_changes(server: Server) -> None:
    server.expect_errors("worker.exited", "worker.not_replaced", "page.gave_up")
    server.configure(default(max_restarts=3))
    server.page(
        "dying", "import os, threading\n\nthreading.Timer(0.1, os._exit, [7]).start()\n\n\ndef get():\n    return 'x'\n"
    )
    server.page("ok", sources.plain("ok"))
    server.page("slow", sources.plain("slow"))
    server.start()
    gave_up = server.wait_log("page.gave_up", page="dying")
    assert "status 7" in gave_up["error"]
    assert "max_restarts" in gave_up["remedy"]
    started = len(server.events("worker.started", page="dying"))
    answer = server.get("/dying")
    assert answer.status == 503
    assert "status 7" in answer.text
    for number in range(3):  # each takes longer than the 0.2 s after which the next start would have come
        since = server.mark()
        server.edit("pages/slow/main.py", f"import time\n\ntime.sleep(0.3)\n\n\ndef get():\n    return '{number}'\n")
        server.wait_live("slow", since)
    assert len(server.events("worker.started", page="dying")) == started
    assert server.get("/ok").text == "ok"
    server.edit("pages/dying/main.py", sources.plain("mended"))
    server.wait_body("/dying", "mended")
