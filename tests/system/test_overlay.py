"""A broken save is seen in the browser, over the page that still serves, and only there (promise 3)."""

from __future__ import annotations

from tests.system.client import Answer
from tests.system.harness import Server, wait_until

OLD = "def get():\n    return '<!doctype html><h1>old</h1>'\n"
NEW = "def get():\n    return '<!doctype html><h1>new</h1>'\n"
BROKEN = "def get():\n    return (\n"


def opened(server: Server) -> Answer:
    """What a browser gets that opens the page."""
    return server.get("/shown", **{"Sec-Fetch-Dest": "document"})


def test_a_broken_save_is_shown_over_the_last_good_revision(server: Server) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.page("shown", OLD)
    server.start()
    server.wait_body("/shown", "<!doctype html><h1>old</h1>")
    server.edit("pages/shown/main.py", BROKEN)
    wait_until(lambda: "tqserver-error" in opened(server).text, server.tail)
    shown = opened(server)
    assert shown.status == 200
    assert shown.text.startswith("<!doctype html><h1>old</h1>")
    assert "pages/shown/main.py:2" in shown.text
    assert "SyntaxError" in shown.text
    assert server.get("/shown").text == "<!doctype html><h1>old</h1>"
    server.edit("pages/shown/main.py", NEW)
    wait_until(lambda: opened(server).text == "<!doctype html><h1>new</h1>", server.tail)


def test_in_production_nothing_is_shown(server: Server) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.configure("mode: prod\n")
    server.page("shown", OLD)
    server.start()
    server.wait_body("/shown", "<!doctype html><h1>old</h1>")
    server.edit("pages/shown/main.py", BROKEN)
    wait_until(lambda: server.events("page.failed") + server.events("build.failed"), server.tail)
    version = server.mark()
    server.page("other", NEW)  # its row is published behind the failure's
    server.wait_live("other", version)
    assert opened(server).text == "<!doctype html><h1>old</h1>"
