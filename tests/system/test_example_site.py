"""examples/site, as ``make run`` shows it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.system.harness import Server, wait_until

SITE = Path(__file__).parents[2] / "examples" / "site"


@pytest.fixture
def site(server: Server) -> Server:
    """A copy of the example, on a port of its own."""
    shutil.rmtree(server.root)
    shutil.copytree(SITE, server.root, ignore=shutil.ignore_patterns(".tqserver", "logs", "__pycache__"))
    server.launch(env={"TQSERVER_SERVER__PORT": str(server.port), "TQSERVER_SERVER__LOG_FILE": "logs/server.log"})
    server.wait_log("server.ready")
    return server


def test_every_page_answers(site: Server) -> None:
    for page in ("index", "api", "users/[id]", "stream", "go"):
        site.wait_live(page)
    first = site.get("/")
    assert first.status == 200
    assert "pages/index/main.py" in first.text  # it says what to edit
    assert site.get("/users/7").status == 200
    assert "7" in site.get("/users/7").text
    assert site.get("/api/").status == 200
    assert site.get("/api/docs").status == 200
    assert site.get("/go").status == 200
    with site.connection() as connection:
        stream = connection.begin("/stream")
        assert stream.getheader("content-type", "").startswith("text/event-stream")
        assert stream.read(5)


def test_the_links_of_the_first_page_lead_somewhere(site: Server) -> None:
    import re

    for page in ("index", "api", "users/[id]", "stream", "go"):
        site.wait_live(page)
    links = set(re.findall(r'href="(/[^"#]*)"', site.get("/").text))
    assert links
    for link in links:
        with site.connection() as connection:
            assert connection.begin(link).status in (200, 307), link


def test_an_edit_of_the_first_page_is_live(site: Server) -> None:
    """The README's sixty-second edit."""
    site.wait_live("index")
    file = "pages/index/main.py"
    text = (site.root / file).read_text()
    assert "Hello" in text
    site.edit(file, text.replace("Hello", "Good morning"))
    wait_until(lambda: "Good morning" in site.get("/").text, site.tail)
