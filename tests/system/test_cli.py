"""Every verb against a real server, and what each says when it cannot do its work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system import cli, sources
from tests.system.harness import Server, free_port, wait_until
from tests.system.load import Load
from tqserver.cli.client import Client
from tqserver.model.errors import NotFound
from tqserver.model.status import Logs

BROKEN = 'def get():\n    return "broken"\n\nimport nothing_of_this_name\n'
SPEAKS = 'def get():\n    print("said", flush=True)\n    return "ok"\n'
ASKS_A_SERVER = (["status"], ["wait"], ["reload"], ["rollback", "/"], ["revisions"], ["events"], ["logs", "-f"])


@pytest.fixture
def site(server: Server) -> Server:
    """A server with a page at /, one at /api/users."""
    server.page("index", sources.plain("home"))
    server.page("api/users", sources.plain("users"))
    server.start()
    server.wait_live("index")
    server.wait_live("api/users")
    return server


# --- who may ask ------------------------------------------------------------------------------------------


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(site: Server) -> None:
    path = site.root / ".tqserver/admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    site.stop()
    assert not path.exists()


@pytest.mark.parametrize("arguments", ASKS_A_SERVER, ids=" ".join)
def test_no_server(server: Server, arguments: list[str]) -> None:
    server.page("index", sources.plain("home"))
    result = cli.run(server.root, *arguments)
    assert result.code == 4
    assert result.out == ""
    assert "no server runs in" in result.err
    assert "start one with tqserver" in result.err


def test_a_server_that_was_killed_is_none_and_the_next_start_cleans_up(site: Server) -> None:
    path = site.root / ".tqserver/admin.sock"
    site.processes()
    assert site.process is not None
    site.process.kill()
    site.wait_exit()
    assert path.is_socket()
    assert "no server runs in" in cli.run(site.root, "status").err
    since = site.mark()
    site.launch()
    site.wait_log("server.ready", since)
    assert cli.run(site.root, "status").code == 0


def test_a_project_whose_path_is_longer_than_a_socket_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Server(tmp_path_factory.mktemp("p") / ("deep" * 20) / ("er" * 40) / "site")
    try:
        server.page("index", sources.plain("home"))
        server.start()
        assert cli.run(server.root, "wait").code == 0
    finally:
        server.finish()


# --- status -----------------------------------------------------------------------------------------------


def test_status_for_people(site: Server) -> None:
    result = cli.run(site.root, "status")
    assert result.code == 0
    first, titles, *rows = result.out.splitlines()
    assert f"http://127.0.0.1:{site.port}" in first
    assert titles.split()[:4] == ["ROUTE", "STATE", "REV", "WORKERS"]
    assert [row.split()[:4] for row in rows] == [["/", "live", "1", "1"], ["/api/users", "live", "1", "1"]]
    assert "\x1b" not in result.out


def test_what_is_wrong_with_the_server_itself_is_in_status_until_it_is_mended(site: Server) -> None:
    site.expect_errors("config.invalid", "pages.missing")
    since = site.mark()
    configuration = (site.root / "config/server.yaml").read_text()
    site.write("config/server.yaml", configuration.replace("port", "prot"))
    site.wait_log("config.invalid", since)
    (site.root / "pages").rename(site.root / "elsewhere")
    site.wait_log("pages.missing", since)
    said = cli.run(site.root, "status").out
    assert "✗ config/server.yaml:2" in said and "did you mean" in said
    assert f"✗ the pages directory {site.root}/pages is missing" in said
    problems = cli.run(site.root, "status", "--json").document["server"]["problems"]
    assert ["prot" in problem["message"] for problem in problems] == [True, False]
    (site.root / "elsewhere").rename(site.root / "pages")
    site.wait_log("pages.restored", since)
    site.write("config/server.yaml", configuration)
    site.wait_log("config.unchanged", since)
    assert cli.run(site.root, "status", "--json").document["server"]["problems"] == []
    assert len(site.events("pages.restored", since)) == len(site.events("config.unchanged", since)) == 1
    assert len(site.events("pages.missing", since)) == 1


def test_status_for_programs(site: Server) -> None:
    status = cli.run(site.root, "status", "--json").document
    assert status["version"] == 1
    server, (proxy,), pages = status["server"], status["proxies"], status["pages"]
    assert (server["pid"], server["mode"], server["watcher"]) == (site.pid, "dev", "inotify")
    assert server["url"] == f"http://127.0.0.1:{site.port}"
    assert proxy["pid"] == site.proxy_pid()
    assert [page["name"] for page in pages] == ["api/users", "index"]
    (worker,) = pages[1]["workers"]
    assert (worker["pid"], worker["state"]) == (site.worker_pid("index"), "ready")
    assert worker["memory_bytes"] > 1_000_000
    assert pages[1]["digest"] == site.events("revision.live", page="index")[-1]["digest"]
    assert pages[1]["last_reload_seconds"] > 0
    assert pages[1]["failure"] is None


def test_status_tells_a_broken_save(site: Server) -> None:
    """Promise 3: the old revision serves, and the error is shown."""
    site.expect_errors("page.failed")
    site.edit("pages/index/main.py", BROKEN)
    site.wait_log("page.failed", page="index")
    page = cli.run(site.root, "status", "--json").document["pages"][1]
    assert (page["state"], page["revision"]) == ("stale", 1)
    failure = page["failure"]
    assert "nothing_of_this_name" in failure["message"]
    assert failure["where"].endswith("pages/index/main.py:4")
    assert failure["remedy"]
    assert failure["output"].startswith("Traceback")
    assert failure["at"]
    told = cli.run(site.root, "status").out
    assert "pages/index/main.py:4" in told
    assert "revision 1 serves on" in told


def test_status_counts_deaths(site: Server) -> None:
    site.expect_errors("worker.exited")
    psutil.Process(site.worker_pid("index")).kill()
    site.wait_log("worker.exited", page="index")
    page = cli.run(site.root, "status", "--json").document["pages"][1]
    assert (page["restarts"], page["last_exit"]) == (1, "killed by SIGKILL")
    assert "a worker died once, the last: killed by SIGKILL" in cli.run(site.root, "status").out


def test_status_counts_requests(site: Server) -> None:
    for _ in range(7):
        site.get("/")

    def counted() -> bool:
        traffic = cli.run(site.root, "status", "--json").document["pages"][1]["traffic"]
        return bool(traffic) and traffic["requests"] == 7

    wait_until(counted, "seven requests")
    users, home = cli.run(site.root, "status", "--json").document["pages"]
    assert (users["traffic"]["requests"], home["traffic"]["in_flight"]) == (0, 0)
    assert home["workers"][0]["in_flight"] == 0
    titles = cli.run(site.root, "status").out.splitlines()[1].split("  ")
    assert {"REQUESTS", "REQ/S", "IN FLIGHT", "WAITING"} <= {title.strip() for title in titles}


def test_status_of_a_page_whose_workers_were_given_up(server: Server) -> None:
    server.expect_errors("worker.exited", "worker.not_replaced", "page.gave_up")
    server.configure("workers:\n  default:\n    max_restarts: 2\n")
    server.page("dies", "import os, threading\n\nthreading.Timer(0.3, os._exit, (3,)).start()\n\ndef get(): ...\n")
    server.start()
    server.wait_log("page.gave_up", page="dies")
    (page,) = cli.run(server.root, "status", "--json").document["pages"]
    assert page["state"] == "failed"
    assert "no more are started" in page["failure"]["message"]
    assert "tqserver reload" in page["failure"]["remedy"]
    assert page["last_exit"] == "status 3"
    assert cli.run(server.root, "wait", "/dies").code == 5
    server.edit("pages/dies/main.py", sources.plain("well"))
    assert cli.run(server.root, "wait", "/dies").code == 0


def test_status_shows_a_new_configuration(site: Server) -> None:
    before, site.port = site.port, free_port()
    site.configure("mode: prod\n")
    site.wait_log("config.applied")
    server = cli.run(site.root, "status", "--json").document["server"]
    assert (server["mode"], server["url"]) == ("prod", f"http://127.0.0.1:{site.port}")
    assert site.port != before


def test_two_pages_with_one_route(site: Server) -> None:
    site.expect_errors("route.conflict")
    site.page("api/users/index", sources.plain("other"))
    site.wait_log("route.conflict", page="api/users/index")
    pages = {page["name"]: page for page in cli.run(site.root, "status", "--json").document["pages"]}
    assert pages["api/users"]["state"] == "live"
    assert pages["api/users/index"]["state"] == "broken"
    assert "both answer /api/users" in pages["api/users/index"]["failure"]["message"]
    waited = cli.run(site.root, "wait")
    assert waited.code == 5
    assert "both answer /api/users" in waited.out


def test_status_is_shown_again_and_again(site: Server) -> None:
    with cli.follow(site.root, "status", "--watch", "--json") as watching:
        wait_until(lambda: len(watching.lines) >= 2, "a second status")
        assert all(json.loads(line)["version"] == 1 for line in watching.lines)
        assert watching.interrupt() == 0


# --- routes, check, doctor, build: with and without a server ----------------------------------------------


def test_routes_without_a_server(server: Server) -> None:
    server.page("index", sources.plain("home"))
    server.page("users/[id]", sources.plain("user"))
    result = cli.run(server.root, "routes")
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        ["ROUTE", "PAGE", "RUNTIME"],
        ["/users/[id]", "pages/users/[id]", "python"],
        ["/", "pages/index", "python"],
    ]
    explained = cli.run(server.root, "routes", "--explain", "http://localhost/users/7?x=1")
    assert explained.code == 0
    assert "is answered by pages/users/[id]" in explained.out
    assert "[id] is '7'" in explained.out
    as_json = cli.run(server.root, "routes", "--explain", "/users/7", "--json").document
    assert as_json["explanation"]["parameters"] == {"id": "7"}


def test_a_url_that_no_page_answers(server: Server) -> None:
    server.page("api", sources.plain("api"))
    result = cli.run(server.root, "routes", "--explain", "/other")
    assert result.code == 1
    assert "is answered by no page" in result.out


def test_check_of_a_sound_project(server: Server) -> None:
    server.page("index", sources.plain("home"))
    result = cli.run(server.root, "check")
    assert result.code == 0, result
    assert all(line.startswith("OK") for line in result.out.splitlines())


def test_check_says_that_there_is_no_configuration(server: Server) -> None:
    server.page("index", sources.plain("home"))
    (server.root / "config/server.yaml").unlink(missing_ok=True)
    result = cli.run(server.root, "check")
    assert result.code == 0, result
    assert "no config/server.yaml: the defaults" in result.out


def test_check_names_every_place(server: Server) -> None:
    server.page("index", "def get(:\n    pass\n")
    server.page("twice/index", sources.plain("one"))
    server.page("twice", sources.plain("two"))
    result = cli.run(server.root, "check")
    assert result.code == 5
    assert "pages/index/main.py:1:9: SyntaxError" in result.out
    assert "pages/twice/index and pages/twice both answer /twice" in result.out.replace("\n", " ") or (
        "pages/twice and pages/twice/index both answer /twice" in result.out
    )
    findings = cli.run(server.root, "check", "--json").document["findings"]
    assert {finding["level"] for finding in findings} == {"ok", "problem"}


def test_check_of_a_wrong_configuration(server: Server) -> None:
    server.configure(f"server:\n  port: {server.port}\n  prot: 1\n  host: 7\n")
    server.page("index", sources.plain("home"))
    result = cli.run(server.root, "check")
    assert result.code == 3
    assert "config/server.yaml:3:3" in result.out
    assert "config/server.yaml:4:9" in result.out


def test_check_runs_no_page(server: Server) -> None:
    server.page("index", "from pathlib import Path\n\nPath('ran').touch()\n")
    cli.run(server.root, "check")
    assert not (server.root / "ran").exists()


def test_a_project_without_pages(server: Server) -> None:
    (server.root / "pages").rmdir()
    for verb in ("check", "routes", "build"):
        result = cli.run(server.root, verb)
        assert result.code in (4, 5), result
        assert "mkdir -p pages/index" in result.out + result.err


def test_doctor(site: Server) -> None:
    result = cli.run(site.root, "doctor")
    lines = result.out.splitlines()
    names = [line[8:].split("  ")[0] for line in lines if line[:8].strip() in ("OK", "NOTE", "PROBLEM")]
    assert {
        "python",
        "python pages",
        "go pages",
        "inotify",
        "watcher",
        "ports",
        "disk",
        "memory limits",
        "open files",
    } <= set(names)
    assert result.code == (1 if any(line.startswith("PROBLEM") for line in lines) else 0)
    remedies = [place for place, line in enumerate(lines) if line.startswith(("NOTE", "PROBLEM"))]
    assert all(lines[place + 1].startswith("          ") for place in remedies)


def test_doctor_finds_ports_that_are_taken(server: Server) -> None:
    server.page("index", sources.plain("home"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.configure(f"workers:\n  port_range_start: {port}\n  port_range_end: {port}\n")
        result = cli.run(server.root, "doctor", "--json")
    ports = next(finding for finding in result.document["findings"] if finding["name"] == "ports")
    assert ports["level"] == "problem"
    assert "port_range_start" in ports["remedy"]
    assert result.code == 1


def test_doctor_finds_an_address_that_is_taken(server: Server) -> None:
    server.page("index", sources.plain("home"))

    def found() -> Any:
        document = cli.run(server.root, "doctor", "--json").document
        return next(finding for finding in document["findings"] if finding["name"] == "server.port")

    assert found()["level"] == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        assert found()["level"] == "problem"
        assert "another program listens there" in found()["remedy"]
    server.start()
    assert found()["level"] == "ok"  # it is the server of this project that has it


def test_doctor_finds_a_project_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    """Another place for artifacts does not help. Root may write everything, so root gives up that right first."""
    server.page("index", sources.plain("home"))
    server.configure(f"workers:\n  temp_dir: {tmp_path}\n")
    (server.root / ".tqserver").mkdir(mode=0o500)
    drop = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    result = subprocess.run(
        [*drop, sys.executable, "-m", "tqserver", "doctor", "--json"],
        cwd=server.root, env=cli.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    disk = next(finding for finding in json.loads(result.stdout)["findings"] if finding["name"] == "disk")
    assert disk["level"] == "problem"
    assert disk["found"] == f"{server.root}/.tqserver cannot be written"
    assert "temp_dir" not in disk["remedy"]


def test_build_without_a_server_is_what_the_server_then_takes(server: Server) -> None:
    server.page("index", sources.plain("home"))
    server.page("go", sources.go("v0"), "main.go")
    built = cli.run(server.root, "build", "--json")
    assert built.code == 0, built
    digests = {page["name"]: page["digest"] for page in built.document["pages"]}
    assert stat.S_IMODE((server.root / ".tqserver").stat().st_mode) == 0o700
    server.start()
    for name, digest in digests.items():
        server.wait_live(name)
        assert server.events("build.done", page=name)[0]["reused"]
        assert server.events("build.done", page=name)[0]["digest"] == digest
    assert "there already" in cli.run(server.root, "build", "/go").out


def test_build_of_a_page_that_does_not_compile(server: Server) -> None:
    server.page("index", sources.plain("home"))
    server.page("go", sources.go("v0").replace("func main() {", "func main() {\n\tundefined()"), "main.go")
    result = cli.run(server.root, "build")
    assert result.code == 5
    assert "pages/go/main.go:" in result.out
    assert "undefined: undefined" in result.out
    assert "✓ /  built in" in result.out
    assert cli.run(server.root, "build", "/").code == 0


def test_build_where_nothing_can_be_written(server: Server) -> None:
    server.page("index", sources.plain("home"))
    (server.root / ".tqserver").touch()  # in the way of the directory, also for root
    result = cli.run(server.root, "build")
    assert result.code == 4
    assert "cannot use" in result.err
    assert "Traceback" not in result.err


# --- wait -------------------------------------------------------------------------------------------------


def test_wait_covers_a_save_just_before_it(site: Server) -> None:
    for version in range(10):
        (site.root / "pages/index/main.py").write_text(sources.plain(f"v{version}"))
        assert cli.run(site.root, "wait", "/").code == 0
        assert site.get("/").text == f"v{version}"


def test_wait_covers_what_no_event_told(server: Server) -> None:
    """Where files are polled the server hears of a change later than the question comes."""
    server.page("index", sources.plain("v0"))
    server.start(env={"WATCHFILES_FORCE_POLLING": "1"})
    server.wait_body("/", "v0")
    for version in range(1, 6):
        (server.root / "pages/index/main.py").write_text(sources.plain(f"v{version}"))
        server.page(f"new{version}", sources.plain(f"new{version}"))
        assert cli.run(server.root, "wait").code == 0
        assert server.get("/").text == f"v{version}"
        assert server.get(f"/new{version}").text == f"new{version}"


def test_wait_covers_a_page_that_is_new_or_gone(site: Server) -> None:
    site.page("fresh", sources.plain("fresh"))
    result = cli.run(site.root, "wait", "fresh")
    assert (result.code, result.out) == (0, "✓ /fresh  revision 1 is live\n")
    assert site.get("/fresh").text == "fresh"
    (site.root / "pages/fresh/main.py").unlink()
    (site.root / "pages/fresh").rmdir()
    assert cli.run(site.root, "wait").code == 0
    assert site.get("/fresh").text == "home"
    assert cli.run(site.root, "wait", "/fresh").code == 2


def test_wait_fails_with_the_build_error(site: Server) -> None:
    site.expect_errors("page.failed", "build.failed")
    site.edit("pages/index/main.py", BROKEN)
    result = cli.run(site.root, "wait", "/")
    assert result.code == 5
    assert "pages/index/main.py:4" in result.out
    assert "No module named 'nothing_of_this_name'" in result.out
    assert "Traceback" in result.out
    assert site.get("/").text == "home"
    every = cli.run(site.root, "wait", "--json")
    assert every.code == 5
    assert [page["failure"] is None for page in every.document["pages"]] == [True, False]
    site.edit("pages/index/main.py", sources.plain("mended"))
    assert cli.run(site.root, "wait").code == 0
    assert site.get("/").text == "mended"


def test_wait_with_an_end(server: Server) -> None:
    server.page("slow", "import time\ntime.sleep(3600)\n")
    server.start()
    result = cli.run(server.root, "wait", "/slow", "--timeout", "0.2")
    assert result.code == 6
    assert "slow is " in result.err
    assert "--timeout" in result.err


def test_wait_for_a_server_that_is_to_start(server: Server) -> None:
    server.page("index", sources.plain("home"))
    with cli.follow(server.root, "wait", "/", "--timeout", "40") as waiting:
        server.start()
        waiting.wait_line("/  revision 1 is live")
        assert waiting.process.wait(10) == 0
    server.stop()
    assert cli.run(server.root, "wait", "--timeout", "0.1").code == 4


@pytest.mark.parametrize("verb", ["wait", "reload", "logs", "build"])
def test_a_route_that_is_not_there(site: Server, verb: str) -> None:
    result = cli.run(site.root, verb, "/api/user")
    assert result.code == 2
    assert "no page has the route /api/user" in result.err
    assert "did you mean /api/users?" in result.err
    error = cli.run(site.root, verb, "/api/user", "--json").document["error"]
    assert error["exit_code"] == 2


# --- reload -----------------------------------------------------------------------------------------------


def test_reload_starts_fresh_workers_of_the_same_code(site: Server) -> None:
    before = site.worker_pid("index")
    digest = cli.run(site.root, "status", "--json").document["pages"][1]["digest"]
    result = cli.run(site.root, "reload", "/")
    assert (result.code, result.out) == (0, "✓ /  revision 2 is live\n")
    assert site.worker_pid("index") != before
    page = cli.run(site.root, "status", "--json").document["pages"][1]
    assert (page["revision"], page["digest"]) == (2, digest)
    assert len(site.events("revision.live", page="api/users")) == 1
    assert len(cli.run(site.root, "reload", "--json").document["pages"]) == 2


def test_reload_under_load_loses_nothing(server: Server) -> None:
    server.configure("workers:\n  default:\n    drain_timeout_seconds: 30\n")
    server.page("loaded", sources.functions("v0"))
    server.start()
    server.wait_body("/loaded", "v0")
    with Load(server.port, "/loaded") as load:
        for revision in range(2, 12):
            result = cli.run(server.root, "reload", "/loaded")
            assert result.out == f"✓ /loaded  revision {revision} is live\n"
    load.assert_no_failure()


def test_reload_ends_a_backoff(server: Server, tmp_path: Path) -> None:
    server.expect_errors("worker.exited", "worker.not_replaced")
    flag = tmp_path / "die"
    server.page("dies", f'import os\n\nassert not os.path.exists({str(flag)!r})\n\ndef get():\n    return "well"\n')
    server.start()
    server.wait_body("/dies", "well")
    flag.touch()
    psutil.Process(server.worker_pid("dies")).kill()
    wait_until(lambda: backoffs(server)[-1:] > [1], lambda: f"a longer backoff than {backoffs(server)}")
    flag.unlink()
    result = cli.run(server.root, "reload", "/dies")
    assert (result.code, result.out) == (0, "✓ /dies  revision 2 is live\n")
    assert server.get("/dies").text == "well"
    page = cli.run(server.root, "status", "--json").document["pages"][0]
    assert (page["state"], page["failure"], len(page["workers"])) == ("live", None, 1)


def backoffs(server: Server) -> list[float]:
    return [event["restart_in_seconds"] for event in server.events("worker.not_replaced")]


def test_reload_of_a_page_that_is_broken(site: Server) -> None:
    site.expect_errors("page.failed")
    site.edit("pages/index/main.py", BROKEN)
    result = cli.run(site.root, "reload", "/")
    assert result.code == 5
    assert "nothing_of_this_name" in result.out
    assert site.get("/").text == "home"


# --- streams ----------------------------------------------------------------------------------------------


def test_logs_are_followed(server: Server) -> None:
    server.page("speaks", SPEAKS)
    server.page("other", SPEAKS.replace("said", "not asked for"))
    server.start()
    server.wait_body("/speaks", "ok")
    with cli.follow(server.root, "logs", "-f", "/speaks") as following:
        following.wait_line("said")
        server.get("/other")
        server.get("/speaks")
        wait_until(lambda: following.lines.count("said") == 2, lambda: str(following.lines))
        assert following.interrupt() == 0
        assert "not asked for" not in following.lines


@pytest.mark.parametrize("lines", ["9" * 4000, "10001", "-1", "\N{ARABIC-INDIC DIGIT ONE}" * 30, "x"])
def test_how_many_lines_may_be_asked_for_is_bounded(site: Server, lines: str) -> None:
    asked = Client(site.root)
    with pytest.raises(NotFound, match="not a whole number up to 10000"):
        asked.get("/v1/logs", Logs, lines=lines)
    assert len(asked.get("/v1/logs", Logs, lines=10000).logs) == 2


def test_logs_of_all_pages_say_whose(server: Server) -> None:
    server.page("speaks", SPEAKS)
    server.start()
    server.wait_body("/speaks", "ok")
    with cli.follow(server.root, "logs", "-f") as following, cli.follow(server.root, "logs", "-f", "--json") as raw:
        following.wait_line("speaks | said")
        assert json.loads(raw.wait_line("said")) == {"page": "speaks", "text": "said"}


def test_logs_of_pages_that_have_printed_nothing(server: Server) -> None:
    server.page("index", sources.plain("home"))
    result = cli.run(server.root, "logs")
    assert (result.code, result.out) == (0, "")
    assert "nothing has been printed" in result.err


def test_logs_without_a_server(server: Server) -> None:
    server.page("speaks", SPEAKS)
    server.start()
    for _ in range(3):
        server.wait_body("/speaks", "ok")
    server.stop()
    assert cli.run(server.root, "logs", "/speaks", "-n", "2").out == "said\nsaid\n"
    (log,) = cli.run(server.root, "logs", "--json").document["logs"]
    assert log["lines"] == ["said"] * 3
    assert log["file"].startswith("logs/")


def test_events_are_followed_to_the_servers_end(site: Server) -> None:
    with cli.follow(site.root, "events", "-f") as people, cli.follow(site.root, "events", "-f", "--json") as programs:
        people.wait_line("server.ready")
        programs.wait_line('"server.ready"')
        site.edit("pages/index/main.py", sources.plain("v1"))
        people.wait_line("revision.live page=index route=/ revision=2")
        programs.wait_line('"event": "revision.live"')
        site.stop()
        assert people.process.wait(10) == 0
        assert programs.process.wait(10) == 0
    numbers = [json.loads(line)["number"] for line in programs.lines]
    assert numbers == list(range(1, len(numbers) + 1))
    after = json.loads(programs.lines[0])
    assert after["level"] == "info"


def test_events_after_a_number(site: Server) -> None:
    lines = cli.run(site.root, "events", "--json").out.splitlines()
    last = json.loads(lines[-1])["number"]
    assert last == len(lines)
    (only,) = cli.run(site.root, "events", "--json", "--after", str(last - 1)).out.splitlines()
    assert json.loads(only)["number"] == last


# --- new, completion, usage -------------------------------------------------------------------------------


def test_a_new_project_runs(server: Server) -> None:
    shutil.rmtree(server.root)
    result = cli.run(server.root.parent, "new", server.root.name)
    assert result.code == 0
    assert f"cd {server.root.name} && tqserver" in result.out
    assert cli.run(server.root, "check").code == 0
    server.configure()  # the port and the log of the tests
    server.start()
    assert cli.run(server.root, "wait").code == 0
    assert "Hello, you" in server.get("/?name=you").text


def test_new_says_a_command_that_a_shell_takes(server: Server) -> None:
    result = cli.run(server.root, "new", "my shop")
    assert "cd 'my shop' && tqserver" in result.out


def test_new_overwrites_nothing(server: Server) -> None:
    file = server.page("index", "mine\n")
    result = cli.run(server.root, "new")
    assert result.code == 4
    assert "is there already" in result.err
    assert file.read_text() == "mine\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(server: Server, shell: str) -> None:
    result = cli.run(server.root, "completion", shell)
    assert result.code == 0, result
    assert "_TQSERVER_COMPLETE" in result.out


def test_completion_knows_verbs_and_routes(server: Server) -> None:
    server.page("api/users", sources.plain("users"))
    for words, expected in {
        "tqserver rel": "reload",
        "tqserver wait /a": "/api/users",
        "tqserver rollback /a": "/api/users",
    }.items():
        env = {"_TQSERVER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            ["tqserver"], cwd=server.root, env={**cli.environment(), **env}, capture_output=True, text=True, check=False
        )
        assert f"plain,{expected}" in done.stdout, done


def test_a_verb_that_is_not_there(server: Server) -> None:
    result = cli.run(server.root, "statsu")
    assert result.code == 2
    assert "Did you mean status?" in result.err


def test_the_configuration_before_or_after_the_verb(server: Server) -> None:
    server.page("index", sources.plain("home"))
    for verb in ("check", "run", "routes", "doctor"):
        for arguments in (["-config", "no.yaml", verb], [verb, "-config", "no.yaml"]):
            result = cli.run(server.root, *arguments)
            assert result.code == 3
            assert "no.yaml: no such file" in result.out + result.err


@pytest.mark.parametrize("verb", ["status", "wait", "reload", "revisions"])
def test_a_verb_that_asks_the_server_takes_the_option_of_run(site: Server, verb: str) -> None:
    assert cli.run(site.root, verb, "-config", "config/server.yaml").code == 0


def test_run_is_what_no_verb_means(server: Server) -> None:
    server.page("index", sources.plain("home"))
    server.start("run", "-quiet")
    server.wait_body("/", "home")
    second = cli.run(server.root, "run", env={"TQSERVER_SERVER__PORT": "0"})
    assert second.code == 4
    assert "another tqserver" in second.err
    assert cli.run(server.root, "status").code == 0  # the second took nothing of the first
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.terminal == ""
