"""Where words go: the server's own, and those of each page."""

from __future__ import annotations

import json
import signal
from datetime import date, datetime

import pytest

from tests.system import sources
from tests.system.harness import LOG_FILE, Server, wait_until

SPEAKS = 'import sys\n\ndef get():\n    print("said")\n    print("complained", file=sys.stderr)\n    return "ok"\n'


def test_output_of_a_page_goes_to_its_file(server: Server) -> None:
    server.configure("workers:\n  default:\n    log_file: logs/worker_{path}_{date}.log\n")
    server.page("api/speaks", SPEAKS)
    server.page("silent", sources.plain("ok"))
    server.start()
    server.wait_body("/api/speaks", "ok")
    server.wait_body("/silent", "ok")

    def said() -> bool:
        files = list((server.root / "logs").glob(f"worker_*speaks*_{date.today()}.log"))
        text = files[0].read_text() if files else ""
        return "said" in text and "complained" in text

    wait_until(said, lambda: str(list((server.root / "logs").glob("**/*"))))
    silent = list((server.root / "logs").glob("worker_*silent*"))
    assert all("said" not in file.read_text() for file in silent)


def test_a_path_of_its_own(server: Server) -> None:
    server.configure('workers:\n  paths:\n    "/speaks":\n      log_file: logs/own.log\n')
    server.page("speaks", SPEAKS)
    server.start()
    server.wait_body("/speaks", "ok")
    own = server.root / "logs/own.log"
    wait_until(lambda: own.exists() and "said" in own.read_text(), "the page's own file")


def test_output_of_a_go_page_goes_to_its_file(server: Server) -> None:
    server.configure("workers:\n  default:\n    log_file: logs/{path}.log\n")
    server.page(
        "go",
        sources.go("v0").replace("func main() {\n", 'func main() {\n\tfmt.Println("go speaks")\n'),
        "main.go",
    )
    server.start()
    server.wait_body("/go", "v0")
    file = server.root / "logs/go.log"
    wait_until(lambda: file.exists() and "go speaks" in file.read_text(), "the page's file")


def test_the_server_log_is_json_with_a_time_and_a_level(server: Server) -> None:
    server.page("index", sources.plain("ok"))
    server.start()
    server.wait_body("/", "ok")
    server.stop()
    lines = [json.loads(line) for line in (server.root / LOG_FILE).read_text().splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    assert all(datetime.fromisoformat(line["timestamp"]).utcoffset() is not None for line in lines)
    names = [line["event"] for line in lines]
    assert names.index("server.ready") < names.index("server.stopping") < names.index("server.stopped")
    assert {"page.found", "build.started", "build.done", "worker.ready", "revision.live"} <= set(names)


def test_the_date_of_a_file_name(server: Server) -> None:
    server.configure(f"server:\n  port: {server.port}\n  log_file: logs/tq_{{date}}.log\n")
    server.page("index", sources.plain("ok"))
    server.launch()
    file = server.root / f"logs/tq_{date.today()}.log"
    wait_until(lambda: file.exists() and "server.ready" in file.read_text(), "a file with today's date")


def test_the_terminal_names_the_url(server: Server) -> None:
    server.page("index", sources.plain("ok"))
    server.start()
    wait_until(lambda: f"http://127.0.0.1:{server.port}" in server.terminal, "the URL")


def test_quiet_silences_the_terminal_and_not_the_files(server: Server) -> None:
    server.expect_errors("page.failed")
    server.page("index", sources.plain("ok"))
    server.page("broken", "raise RuntimeError('no')\n")
    server.start("-quiet")
    server.wait_body("/", "ok")
    server.wait_log("page.failed", page="broken")
    server.stop()
    assert server.terminal == ""


@pytest.mark.parametrize(("number", "event"), [(signal.SIGHUP, "server.hangup"), (signal.SIGUSR1, "logs.reopened")])
def test_a_log_that_was_moved_is_opened_again(server: Server, number: signal.Signals, event: str) -> None:
    """logrotate: rename, then a signal (pitfall 27)."""
    server.page("index", sources.plain("v0"))
    server.start()
    server.wait_body("/", "v0")
    log = server.root / LOG_FILE
    log.rename(log.with_suffix(".1"))
    server.signal(number)
    server._log_offset = 0
    server.wait_log(event)
    assert log.exists()
    assert server.get("/").text == "v0"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENDS = "import os\n\ndef post():\n    os._exit(3)\n"


def test_a_failed_request_is_logged_by_its_id_and_its_trace(server: Server) -> None:
    server.expect_errors("worker.exited")
    server.page("ends", ENDS)
    server.start()
    server.wait_live("ends")
    answer = server.get("/ends", "POST", b"", **{"X-Request-Id": "r-7", "traceparent": TRACE})
    assert answer.status == 502
    assert server.wait_log("request.failed", request_id="r-7")["traceparent"] == TRACE
    answer = server.get("/ends", "POST", b"", **{"X-Request-Id": "r-8", "traceparent": "forged\ttext"})
    assert answer.status in (502, 503)
    assert "traceparent" not in server.wait_log("request.failed", request_id="r-8")
