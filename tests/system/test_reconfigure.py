"""A configuration that changes while the server runs: applied whole without losing a request, or not at all."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.system import client, sources
from tests.system.harness import Server, free_port, wait_until
from tests.system.load import Load

SHOWS = "import os\n\ndef get():\n    return dict(os.environ)\n"

DRAINS_LONG = "workers:\n  default:\n    drain_timeout_seconds: 20\n"  # longer than a download takes


def environment(server: Server, path: str) -> dict[str, str]:
    answer = server.get(path)
    assert answer.status == 200, answer
    found: dict[str, str] = json.loads(answer.body)
    return found


def base(server: Server, **more: object) -> str:
    lines = {"port": server.port, "log_file": "logs/server.log", **more}
    return "server:\n" + "".join(f"  {key}: {value}\n" for key, value in lines.items())


def workers_of(server: Server, page: str) -> list[int]:
    return [event["worker"] for event in server.events("worker.ready", page=page)]


def test_what_a_worker_is_told_takes_a_new_one(server: Server) -> None:
    """The page whose settings changed gets a new revision, no other does; no request fails."""
    server.configure(base(server) + DRAINS_LONG)
    server.page("shows", SHOWS)
    server.page("load", sources.functions("v0"))
    server.page("other", sources.plain("ok"))
    server.start()
    for page in ("shows", "load", "other"):
        server.wait_live(page)
    others = workers_of(server, "other")
    with Load(server.port, "/load") as load:
        for number in range(3):
            since = server.mark()
            server.configure(
                "workers:\n  default:\n    drain_timeout_seconds: 20\n  paths:\n"
                + f'    "/shows":\n      env: {{GREETING: "{number}"}}\n'
                + f'    "/load":\n      env: {{GREETING: "{number}"}}\n'
            )
            server.wait_log("config.applied", since)
            server.wait_live("shows", since)
            server.wait_live("load", since)
            assert environment(server, "/shows")["GREETING"] == str(number)
    load.assert_no_failure()
    assert workers_of(server, "other") == others


def test_limits_apply_without_a_new_worker(server: Server) -> None:
    server.page("page", "async def post(request):\n    return str(len(await request.body()))\n")
    server.start()
    server.wait_live("page")
    assert server.get("/page", "POST", b"x" * 1000).text == "1000"
    workers = workers_of(server, "page")
    since = server.mark()
    server.configure(base(server, max_body=100))
    server.wait_log("config.applied", since)
    wait_until(lambda: server.get("/page", "POST", b"x" * 1000).status == 413, server.tail)
    assert workers_of(server, "page") == workers


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("  prot: 1\n", "config/server.yaml:4:3: unknown key server.prot (did you mean port?)"),
        ("  max_body: much\n", "config/server.yaml:4:13"),
        ("  - x: [\n", "config/server.yaml:4"),
    ],
)
def test_an_invalid_one_leaves_the_running_one(server: Server, wrong: str, says: str) -> None:
    server.expect_errors("config.invalid")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_live("page")
    since = server.mark()
    server.configure(base(server) + wrong + "workers:\n  default:\n    env: {A: b}\n")
    assert says in server.wait_log("config.invalid", since)["error"]
    server.edit("pages/page/main.py", sources.plain("v1"))  # the server goes on as it was
    server.wait_body("/page", "v1")
    since = server.mark()
    server.configure(base(server) + "workers:\n  default:\n    env: {A: b}\n")
    server.wait_log("config.applied", since)


def test_another_port(server: Server) -> None:
    """The new one is bound before the old one is left, and what was begun on the old one is finished."""
    server.configure(base(server) + DRAINS_LONG)
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    old, new = server.port, free_port()
    with Load(old, "/page") as load, server.connection() as begun:
        begun._http.request("GET", "/page/download")
        since = server.mark()
        server.port = new
        server.configure(base(server) + DRAINS_LONG)
        server.wait_log("config.applied", since)
        wait_until(lambda: _answers(new), server.tail)
        load._stop.set()
        answer = begun._http.getresponse()
        assert len(answer.read()) == 2 + sources.CHUNKS * sources.CHUNK_BYTES
    assert str(new) in server.wait_log("server.moved", since)["url"]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", old), 1).close()
    server.edit("pages/page/main.py", sources.functions("v1"))
    server.wait_body("/page", "v1")


def _answers(port: int) -> bool:
    try:
        return client.fetch(port, "/page", "GET", None, {}).status == 200
    except OSError:
        return False


def test_a_port_in_use_is_refused_whole(server: Server) -> None:
    server.expect_errors("config.invalid")
    server.page("page", SHOWS)
    server.start()
    server.wait_live("page")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        since = server.mark()
        port = stranger.getsockname()[1]
        server.configure(
            f"server:\n  port: {port}\n  log_file: logs/server.log\nworkers:\n  default:\n    env: {{A: b}}\n"
        )
        error = server.wait_log("config.invalid", since)["error"]
    assert str(port) in error
    assert "A" not in environment(server, "/page")
    assert server.events("config.applied", since) == []


def test_more_and_fewer_proxies(server: Server) -> None:
    server.configure(base(server) + DRAINS_LONG)
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    with Load(server.port, "/page") as load:
        for count in (3, 1, 2):
            since = server.mark()
            server.configure(base(server, proxies=count) + DRAINS_LONG)
            server.wait_log("config.applied", since)
            wait_until(lambda: len(_proxies(server)) == count, lambda: f"{_proxies(server)}\n{server.tail()}")  # noqa: B023
    load.assert_no_failure()


def _proxies(server: Server) -> list[int]:
    found = []
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            command = " ".join(process.cmdline())
            if "tqserver.proxy" in command or command.startswith("tqserver: proxy"):
                found.append(process.pid)
    return found


def test_a_file_where_there_was_none(server: Server) -> None:
    (server.root / "config/server.yaml").unlink()
    (server.root / "config").rmdir()
    server.page("shows", SHOWS)
    names = {"TQSERVER_SERVER__PORT": str(server.port), "TQSERVER_SERVER__LOG_FILE": "logs/server.log"}
    server.launch(env=names)
    server.wait_live("shows")
    for text in ("one", "two"):
        since = server.mark()
        server.write("config/server.yaml", f"workers:\n  default:\n    env: {{GREETING: {text}}}\n")
        server.wait_live("shows", since)
        assert environment(server, "/shows")["GREETING"] == text


def test_another_mode_and_another_pages_directory(server: Server) -> None:
    server.page("shows", SHOWS)
    server.start()
    server.wait_live("shows")
    since = server.mark()
    server.configure("mode: prod\n")
    server.wait_live("shows", since)
    assert environment(server, "/shows")["TQ_MODE"] == "prod"
    server.write("elsewhere/new/main.py", sources.plain("new"))
    since = server.mark()
    server.configure("pages:\n  directory: elsewhere\n")
    server.wait_live("new", since)
    server.wait_log("page.gone", since, page="shows")
    assert server.get("/new").text == "new"
    assert server.get("/shows").status == 404
    server.edit("elsewhere/new/main.py", sources.plain("edited"))
    server.wait_body("/new", "edited")


def test_a_pages_directory_that_is_missing_is_refused(server: Server) -> None:
    server.expect_errors("config.invalid")
    server.page("page", sources.plain("ok"))
    server.start()
    server.wait_live("page")
    since = server.mark()
    server.configure("pages:\n  directory: nowhere\n")
    assert "nowhere" in server.wait_log("config.invalid", since)["error"]
    assert server.get("/page").text == "ok"


def test_hangup_reads_it_again(server: Server) -> None:
    """Where events do not arrive (a bind mount, a network file system), SIGHUP makes it take effect."""
    elsewhere = server.root.parent / "elsewhere.yaml"
    elsewhere.write_text(base(server))
    server.page("shows", SHOWS)
    (server.root / "config/server.yaml").unlink()
    (server.root / "config/server.yaml").symlink_to(elsewhere)
    server.start()
    server.wait_live("shows")
    since = server.mark()
    Path(elsewhere).write_text(base(server) + "workers:\n  default:\n    env: {GREETING: hup}\n")
    server.signal(signal.SIGHUP)
    server.wait_live("shows", since)
    assert environment(server, "/shows")["GREETING"] == "hup"
