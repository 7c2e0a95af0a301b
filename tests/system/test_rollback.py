"""Back to an earlier revision, under load; forward again by the next edit. And what a restart brings back."""

from __future__ import annotations

import shutil

import pytest

from tests.system import cli, sources
from tests.system.harness import Server
from tests.system.load import Load
from tqserver.host.sockets import connect_unix

SETTINGS = "workers:\n  default:\n    drain_timeout_seconds: 30\n"
DOES_NOT_START = 'raise RuntimeError("not like this")\n'
ONCE = "from pathlib import Path\n\nPath('database').read_text()\n\n\ndef get():\n    return 'v0'\n"


def page_with(server: Server, *texts: str, file: str = "pages/x/main.py") -> None:
    """Start a server with a page at /x that has had these contents, v0 first."""
    server.write(file, texts[0])
    server.start()
    server.wait_body("/x", "v0")
    for version, text in enumerate(texts[1:], 1):
        server.edit(file, text)
        server.wait_body("/x", f"v{version}")


def restart(server: Server) -> int:
    """Stop, and start again; return the place in the log between."""
    server.stop()
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    return since


def status(server: Server) -> dict[str, object]:
    (page,) = cli.run(server.root, "status", "--json").document["pages"]
    assert isinstance(page, dict)
    return page


# --- under load -------------------------------------------------------------------------------------------


def test_back_and_forward_under_load(server: Server) -> None:
    """What answered before each edit answers after each rollback, from the moment in which the command returns."""
    server.configure(SETTINGS)
    page_with(server, *(sources.functions(f"v{version}") for version in range(3)))
    with Load(server.port, "/x") as load:
        for version in range(3, 6):
            assert cli.run(server.root, "rollback", "/x").code == 0
            assert server.get("/x").text == "v1"
            server.edit("pages/x/main.py", sources.functions(f"v{version}"))
            server.wait_body("/x", f"v{version}")
        assert cli.run(server.root, "rollback", "/x", "1").code == 0
        assert server.get("/x").text == "v0"
    load.assert_no_failure()


@pytest.mark.slow
def test_a_go_page_goes_back_without_a_build(server: Server) -> None:
    server.configure(SETTINGS)
    page_with(server, sources.go("v0"), sources.go("v1"), file="pages/x/main.go")
    with Load(server.port, "/x") as load:
        since = server.mark()
        assert cli.run(server.root, "rollback", "/x").code == 0
        server.wait_body("/x", "v0")
        assert server.events("build.started", since) == []
    load.assert_no_failure()
    server.edit("pages/x/main.go", sources.go("v2"))
    server.wait_body("/x", "v2")


def test_a_page_goes_back_to_another_language(server: Server) -> None:
    page_with(server, sources.plain("v0"))
    (server.root / "pages/x/main.py").unlink()
    server.write("pages/x/main.go", sources.go("v1"))
    server.wait_body("/x", "v1")
    assert cli.run(server.root, "rollback", "/x").code == 0
    server.wait_body("/x", "v0")


# --- what is said -----------------------------------------------------------------------------------------


def test_what_a_rollback_says(server: Server) -> None:
    page_with(server, *map(sources.plain, ("v0", "v1", "v2")))
    back = cli.run(server.root, "rollback", "/x")
    assert (back.code, back.out) == (0, "✓ /x  revision 4 is live and brings back revision 2\n")
    server.wait_body("/x", "v1")
    assert status(server)["rolled_back_to"] == 2
    assert "! /x  rolled back to revision 2: what is on disk is not served" in cli.run(server.root, "status").out
    waited = cli.run(server.root, "wait", "/x")
    assert waited.code == 5
    assert "it is rolled back to revision 2: what is on disk is not served" in waited.out
    assert "edit it, or tqserver reload /x" in waited.out
    (again,) = cli.run(server.root, "rollback", "x", "--json").document["pages"]
    assert (again["revision"], again["rolled_back_to"], again["failure"]) == (5, 1, None)
    server.edit("pages/x/main.py", sources.plain("v2"))  # saved without a change
    assert cli.run(server.root, "wait", "/x").code == 5
    assert cli.run(server.root, "reload", "/x").code == 0
    server.wait_body("/x", "v2")
    assert cli.run(server.root, "wait", "/x").code == 0


def test_revisions_are_listed(server: Server) -> None:
    page_with(server, *map(sources.plain, ("v0", "v1")))
    cli.run(server.root, "rollback", "/x")
    title, *rows = cli.run(server.root, "revisions", "/x").out.splitlines()
    assert title.split() == ["ROUTE", "REV", "LIVE", "SINCE", "DIGEST"]
    assert [row.split()[:2] + row.split()[4:] for row in rows] == [
        ["/x", "3", "live,", "brings", "back", "1"],
        ["/x", "2"],
        ["/x", "1"],
    ]
    (page,) = cli.run(server.root, "revisions", "--json").document["pages"]
    newest, middle, oldest = page["revisions"]
    assert (page["route"], newest["is_live"], newest["brings_back"], middle["is_live"]) == ("/x", True, 1, False)
    assert newest["digest"] == oldest["digest"] != middle["digest"]
    assert oldest["at"] <= newest["at"]
    assert all(revision["is_kept"] and revision["at"] for revision in page["revisions"])


def test_what_cannot_be_gone_back_to(server: Server) -> None:
    server.expect_errors("page.failed")
    page_with(server, sources.plain("v0"))
    server.page("never", DOES_NOT_START)
    server.page("both", sources.plain("v0"))
    server.page("both", sources.go("v0"), "main.go")
    server.wait_log("page.failed", page="never")
    for arguments, code, message, remedy in (
        (("/x",), 2, "/x has no revision before the one that is live", "tqserver revisions"),
        (("/x", "7"), 2, "/x has no revision 7", "now: 1"),
        (("/y",), 2, "no page has the route /y", "did you mean /x"),
        (("/both",), 5, "two languages in one directory", "page.yaml"),
        (("/never",), 2, "no revision of /never has been live yet", "tqserver wait"),
        ((), 2, "Missing argument 'ROUTE'", ""),
    ):
        result = cli.run(server.root, "rollback", *arguments)
        assert result.code == code, result
        assert message in result.err
        assert remedy in result.err
    as_json = cli.run(server.root, "rollback", "/x", "7", "--json")
    assert as_json.document["error"]["exit_code"] == 2


def test_an_artifact_that_is_gone(server: Server) -> None:
    page_with(server, sources.plain("v0"), sources.plain("v1"))
    oldest = server.events("revision.live", page="x")[0]["digest"]
    shutil.rmtree(server.root / ".tqserver/store" / oldest[:2] / oldest)
    result = cli.run(server.root, "rollback", "/x")
    assert result.code == 4
    assert "the artifact of revision 1 is no longer in the store" in result.err
    assert "its artifact is gone" in cli.run(server.root, "revisions", "/x").out
    server.wait_body("/x", "v1")


def test_a_revision_that_does_not_start_any_more(server: Server) -> None:
    database = server.write("database", "")
    page_with(server, ONCE, sources.plain("v1"))
    database.unlink()
    result = cli.run(server.root, "rollback", "/x")
    assert result.code == 5
    assert "revision 1 cannot be brought back, so what is live stays" in result.err
    assert "FileNotFoundError" in result.err
    page = status(server)
    assert (page["state"], page["revision"], page["failure"], page["rolled_back_to"]) == ("live", 2, None, 0)
    server.wait_body("/x", "v1")


def test_the_api_is_asked_with_post_and_a_route(server: Server) -> None:
    page_with(server, sources.plain("v0"), sources.plain("v1"))
    for request, code in ((b"GET /v1/rollback?route=/x", 405), (b"POST /v1/rollback", 404)):
        with connect_unix(server.root / ".tqserver/admin.sock") as admin:
            admin.sendall(request + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            assert admin.recv(4096).startswith(b"HTTP/1.1 %d " % code)
    server.wait_body("/x", "v1")


# --- across restarts --------------------------------------------------------------------------------------


def test_a_rollback_outlives_the_server(server: Server) -> None:
    page_with(server, sources.plain("v0"), sources.plain("v1"))
    assert cli.run(server.root, "rollback", "/x").code == 0
    since = restart(server)
    server.wait_body("/x", "v0")
    assert status(server)["rolled_back_to"] == 1
    assert server.events("build.started", since) == []
    server.edit("pages/x/main.py", sources.plain("v2"))
    server.wait_body("/x", "v2")


@pytest.mark.parametrize(
    ("file", "good", "bad", "event"),
    [
        ("main.py", sources.plain("v0"), "def get(:\n", "page.failed"),
        ("main.py", sources.plain("v0"), DOES_NOT_START, "page.failed"),
        ("main.go", sources.go("v0"), sources.go("v1") + "oops\n", "build.failed"),
    ],
    ids=["syntax", "start", "go"],
)
def test_what_is_broken_while_no_server_runs_leaves_the_last_good_revision_serving(
    server: Server, file: str, good: str, bad: str, event: str
) -> None:
    server.expect_errors(event)
    page_with(server, good, file=f"pages/x/{file}")
    server.stop()
    server.write(f"pages/x/{file}", bad)
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/x", "v0")
    server.wait_log(event, since, page="x")
    page = status(server)
    assert page["state"] == "stale"
    failure = page["failure"]
    assert isinstance(failure, dict)
    assert failure["message"]
    assert "serves on" in cli.run(server.root, "wait", "/x").out
    server.edit(f"pages/x/{file}", good.replace("v0", "v2"))
    server.wait_body("/x", "v2")
    assert status(server)["state"] == "live"


def test_nothing_to_bring_back_at_the_start(server: Server) -> None:
    server.expect_errors("page.failed")
    page_with(server, sources.plain("v0"))
    server.stop()
    shutil.rmtree(server.root / ".tqserver/store")
    server.page("x", DOES_NOT_START)
    since = server.mark()
    server.launch()
    server.wait_log("page.failed", since, page="x")
    assert server.get("/x").status == 503
    assert status(server)["state"] == "broken"
