"""Directories are URLs, also while the server runs."""

from __future__ import annotations

import shutil

import pytest

from tests.system import client, sources
from tests.system.harness import Server, wait_until

PARAMETERS = "def get(request):\n    return dict(request.path_params)\n"


def test_a_page_answers_its_path_and_all_below(server: Server) -> None:
    server.page("api", sources.plain("api"))
    server.page("api/users", sources.plain("users"))
    server.start()
    for path, body in {
        "/api": "api",
        "/api/x/y": "api",
        "/api/users": "users",
        "/api/users/7": "users",
    }.items():
        server.wait_body(path, body)
    assert server.get("/apix").status == 404
    assert server.get("/api/usersx").text == "api"
    assert server.get("/").status == 404


def test_the_index_page_answers_what_nothing_else_does(server: Server) -> None:
    server.page("index", sources.plain("index"))
    server.page("docs/index", sources.plain("docs"))
    server.start()
    for path, body in {"/": "index", "/nowhere/at/all": "index", "/docs": "docs", "/docs/x": "docs"}.items():
        server.wait_body(path, body)


def test_parameters(server: Server) -> None:
    server.page("users/[id]", PARAMETERS)
    server.page("users/me", sources.plain("me"))
    server.page("files/[...rest]", PARAMETERS)
    server.start()
    server.wait_body("/users/me", "me")
    server.wait_body("/users/7", '{"id":"7"}')
    server.wait_body("/files/a/b%20c", '{"rest":"a/b c"}')
    assert server.get("/users").status == 404


def test_an_asgi_app_has_routes_of_its_own(server: Server) -> None:
    server.page("api", sources.fastapi("v0"))
    server.start()
    server.wait_body("/api/items/3", '{"version":"v0","item":3,"root":"/api"}')
    assert server.get("/api/nothing").status == 404


def test_a_wsgi_app(server: Server) -> None:
    server.page("wsgi", sources.wsgi("v0"))
    server.start()
    server.wait_body("/wsgi", "v0")


def test_methods(server: Server) -> None:
    server.page("one", sources.plain("one"))
    server.start()
    server.wait_body("/one", "one")
    refused = server.get("/one", "DELETE")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    head = server.get("/one", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3")


def test_what_the_proxy_lets_pass_reaches_a_page(server: Server) -> None:
    """The most fields that a head may have, and the longest body that may be announced."""
    server.page("one", sources.plain("one"))
    server.start()
    server.wait_body("/one", "one")
    fields = "".join(f"X-{number}: y\r\n" for number in range(87))
    head = f"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}Content-Length: {2**63 - 1}\r\n\r\n"
    assert client.exchange(server.port, head.encode()).startswith(b"HTTP/1.1 200 ")


def test_created_while_running(server: Server) -> None:
    server.page("old", sources.plain("old"))
    server.start()
    assert server.get("/new/deep").status == 404
    server.page("new/deep", sources.plain("new"))
    server.wait_body("/new/deep", "new")
    server.page("new", sources.plain("above"))
    server.wait_body("/new", "above")
    server.wait_body("/new/deep", "new")


def test_a_directory_is_made_before_its_file(server: Server) -> None:
    server.start()
    (server.root / "pages/new").mkdir()
    server.page("other", sources.functions("v0"))
    server.wait_live("other")  # the empty directory has been seen
    server.page("new", sources.functions("v1"))
    server.wait_body("/new", "v1")
    assert server.events("page.failed") == []


def test_a_directory_that_stays_empty_is_an_error(server: Server) -> None:
    server.expect_errors("page.failed")
    server.start()
    (server.root / "pages/new").mkdir()
    assert server.wait_log("page.failed", page="new")["error"] == "the page directory is empty"
    assert "the page directory is empty" in server.get("/new").text


def test_the_first_page_of_all(server: Server) -> None:
    server.start()
    assert server.get("/").status == 404
    server.page("index", sources.plain("first"))
    server.wait_body("/", "first")


def test_renamed_while_running(server: Server) -> None:
    server.page("before", sources.plain("page"))
    server.start()
    server.wait_body("/before", "page")
    (server.root / "pages/before").rename(server.root / "pages/after")
    server.wait_body("/after", "page")
    server.wait_log("page.gone", page="before")
    wait_until(lambda: server.get("/before").status == 404, "404 of the old name")
    server.edit("pages/after/main.py", sources.plain("edited"))
    server.wait_body("/after", "edited")


def test_deleted_and_made_again_while_running(server: Server) -> None:
    server.page("page", sources.plain("one"))
    server.page("other", sources.plain("other"))
    server.start()
    server.wait_body("/page", "one")
    worker = server.worker_pid("page")
    shutil.rmtree(server.root / "pages/page")
    wait_until(lambda: server.get("/page").status == 404, "404")
    wait_until(lambda: worker not in {p.pid for p in server.processes()}, "its worker to end")
    assert server.get("/other").text == "other"
    server.page("page", sources.plain("two"))
    server.wait_body("/page", "two")


def test_a_page_of_another_language_takes_its_place(server: Server) -> None:
    server.page("page", sources.plain("python"))
    server.start()
    server.wait_body("/page", "python")
    server.page("page", sources.go("go"), "main.go")
    (server.root / "pages/page/main.py").unlink()
    server.wait_body("/page", "go")


def test_hidden_directories_are_not_pages(server: Server) -> None:
    server.page("_draft", sources.plain("draft"))
    server.page(".git", sources.plain("git"))
    server.page("seen", sources.plain("seen"))
    server.start()
    server.wait_body("/seen", "seen")
    assert server.get("/_draft").status == server.get("/.git").status == 404
    assert {line["page"] for line in server.events("page.found")} == {"seen"}


def test_a_conflict_names_both_and_changes_nothing(server: Server) -> None:
    server.expect_errors("route.conflict")
    server.page("same", sources.plain("first"))
    server.start()
    server.wait_body("/same", "first")
    since = server.mark()
    server.page("same/index", sources.plain("second"))
    conflict = server.wait_log("route.conflict", since)
    assert "pages/same" in conflict["error"]
    assert "pages/same/index" in conflict["error"]
    assert conflict["remedy"]
    assert server.get("/same").text == "first"
    shutil.rmtree(server.root / "pages/same")
    server.page("same/index", sources.plain("second"))
    server.wait_body("/same", "second")


@pytest.mark.parametrize("names", [("[id]", "[name]"), ("[...a]", "[...b]")])
def test_patterns_conflict_too(server: Server, names: tuple[str, str]) -> None:
    server.expect_errors("route.conflict")
    server.page("ok", sources.plain("ok"))
    for name in names:
        server.page(f"users/{name}", PARAMETERS)
    server.start()
    server.wait_log("route.conflict")
    server.wait_body("/ok", "ok")


def test_a_page_that_is_a_symbolic_link(server: Server) -> None:
    server.write("elsewhere/main.py", sources.plain("one"))
    (server.root / "pages/linked").symlink_to(server.root / "elsewhere")
    server.start()
    server.wait_body("/linked", "one")
