"""server.access_log in a whole server: switched on while it runs, of several proxies, to its standard output."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.system import sources
from tests.system.harness import Server, wait_until
from tests.system.load import Load

TEXT = re.compile(r'127\.0\.0\.1 - - \[[^\]]+\] "[^"]+" 200 \d+ "-" "[^"]*" [\d.]+ \S+ "page" 1 \d+')


def settings(server: Server, more: str) -> str:
    return f"server:\n  port: {server.port}\n  log_file: logs/server.log\n{more}"


def test_lines_of_several_proxies_are_whole_while_the_file_is_moved(server: Server) -> None:
    server.configure(settings(server, "  proxies: 2\n  access_log: text\n  access_log_file: logs/access.log\n"))
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    log = server.root / "logs/access.log"
    with Load(server.port, "/page", downloads=False) as load:
        wait_until(lambda: _count(log) > 20)
        log.rename(log.with_suffix(".1"))
        wait_until(lambda: _count(log) > 20)
    load.assert_no_failure()
    server.stop()
    lines = [line for file in (log, log.with_suffix(".1")) for line in file.read_text().splitlines()]
    broken = [line for line in lines if not TEXT.fullmatch(line)]
    assert not broken
    ids = [line.split('"')[-3].split()[-1] for line in lines]
    assert len({identity.partition("-")[0] for identity in ids}) == 2, "both proxies have written"
    assert len(ids) == len(set(ids)) == len(load), "each request has one line, also those of the last half second"


def _count(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_json_on_standard_output(server: Server) -> None:
    server.page("page", sources.plain("hello"))
    server.start("-quiet")
    server.wait_live("page")
    server.configure(settings(server, "  access_log: json\n  access_log_file: null\n"))

    def lines() -> list[dict[str, object]]:
        server.get("/page", **{"X-Request-Id": "mine"})
        return [json.loads(line) for line in server.terminal.splitlines() if line.startswith("{")]

    line = wait_until(lines)[0]
    assert (line["request_id"], line["page"], line["status"], line["bytes"]) == ("mine", "page", 200, 5)


def test_a_file_of_the_page_has_a_line_with_all_its_bytes(server: Server) -> None:
    server.configure(settings(server, "  access_log: json\n  access_log_file: logs/access.log\n"))
    server.page("page", sources.plain("hello"))
    server.write("pages/page/public/large.txt", "large " * 50_000)
    server.start("-quiet")
    server.wait_live("page")
    assert len(server.get("/page/large.txt").body) == 300_000
    log = server.root / "logs/access.log"
    wait_until(lambda: _count(log) == 1)
    line = json.loads(log.read_text())
    assert (line["page"], line["status"], line["bytes"]) == ("page", 200, 300_000)


def test_a_file_that_cannot_be_written_is_told_and_holds_nobody_up(server: Server) -> None:
    server.expect_errors("access_log.failed")
    server.configure(settings(server, "  access_log: text\n  access_log_file: config/server.yaml/access.log\n"))
    server.page("page", sources.plain("hello"))
    server.start()
    server.wait_body("/page", "hello")
    reason = server.wait_log("access_log.failed")["reason"]
    assert reason.startswith("cannot write config/server.yaml/access.log: ")
    server.wait_body("/page", "hello")
