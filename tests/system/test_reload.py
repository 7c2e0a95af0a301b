"""Saves under load: none is lost, each is answered by old or new code, after the switch only by the new."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system import sources
from tests.system.editors import SAVES
from tests.system.harness import Server, wait_until
from tests.system.load import Load

SETTINGS = "workers:\n  default:\n    drain_timeout_seconds: 30\n"  # a download survives the reload that began in it


def edit_and_see(server: Server, load: Load, page: str, file: str, text: str, version: int, how: str) -> None:
    """Save, wait until every proxy has acknowledged and the new code was seen, and tell the load."""
    since = server.mark()
    server.edit(file, text, how)
    server.wait_live(page, since)
    server.wait_body(f"/{page}", f"v{version}")
    load.switched(version)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "page", "edits", "warm"), [("main.py", sources.functions, 50, 10), ("main.go", sources.go, 10, 3)]
)
def test_many_edits(server: Server, entry: str, page: Callable[[str], str], edits: int, warm: int) -> None:
    """After ``warm`` of them the supervisor holds as many descriptors as it ever will."""
    server.configure(SETTINGS)
    file = f"pages/edited/{entry}"
    server.write(file, page("v0"))
    server.start()
    server.wait_body("/edited", "v0")
    with Load(server.port, "/edited") as load:
        for version in range(1, edits + 1):
            edit_and_see(server, load, "edited", file, page(f"v{version}"), version, "in-place")
            if version == warm:
                held = server.descriptors()
    load.assert_no_failure()
    one_worker_left(server, "edited", edits + 1)
    wait_until(lambda: server.descriptors() <= held, lambda: f"{server.descriptors()} descriptors, {held} before")


def test_edits_of_a_fastapi_page(server: Server) -> None:
    file = "pages/edited/main.py"
    server.write(file, sources.fastapi("v0"))
    server.start()
    server.wait_body("/edited", "v0")
    with Load(server.port, "/edited/", downloads=False) as load:
        for version in range(1, 11):
            edit_and_see(server, load, "edited", file, sources.fastapi(f"v{version}"), version, "in-place")
    load.assert_no_failure()


@pytest.mark.parametrize("how", SAVES)
def test_each_way_of_saving(server: Server, how: str) -> None:
    """The harness hands on no PYTHONDONTWRITEBYTECODE, so that a stale .pyc would show."""
    server.configure(SETTINGS)
    file = "pages/edited/main.py"
    server.write(file, sources.functions("v100"))
    server.start()
    server.wait_body("/edited", "v100")
    with Load(server.port, "/edited", downloads=False) as load:
        for version in range(101, 105):
            edit_and_see(server, load, "edited", file, sources.functions(f"v{version}"), version, how)
    load.assert_no_failure()


def test_a_page_is_one_process_of_its_own(server: Server) -> None:
    """A reload of one page leaves the worker of another as it was."""
    server.page("edited", sources.plain("v0"))
    server.page("quiet", sources.plain("quiet"))
    server.start()
    server.wait_body("/edited", "v0")
    server.wait_body("/quiet", "quiet")
    before = server.worker_pid("quiet")
    assert before != server.worker_pid("edited")
    server.edit("pages/edited/main.py", sources.plain("v1"))
    server.wait_body("/edited", "v1")
    assert server.worker_pid("quiet") == before
    assert len(server.events("worker.ready", page="quiet")) == 1


def test_the_last_of_a_burst_of_saves_wins(server: Server) -> None:
    server.page("edited", sources.plain("v0"))
    server.start()
    server.wait_body("/edited", "v0")
    for version in range(1, 21):
        server.edit("pages/edited/main.py", sources.plain(f"v{version}"))
    server.wait_body("/edited", "v20")
    one_worker_left(server, "edited")


def test_shared_code_reloads_the_pages_that_read_it(server: Server) -> None:
    """A module beside pages/, imported by one of two pages (pitfall 12)."""
    server.write("shared/words.py", 'WORD = "old"\n')
    server.page("reader", "from shared.words import WORD\n\n\ndef get():\n    return WORD\n")
    server.page("other", sources.plain("other"))
    server.start()
    server.wait_body("/reader", "old")
    server.edit("shared/words.py", 'WORD = "new"\n')
    server.wait_body("/reader", "new")
    assert len(server.events("build.started", page="other")) == 1


def test_a_template_is_code_too(server: Server) -> None:
    server.write("templates/base.html", "<b>{% block body %}{% endblock %}</b>")
    server.write("pages/shown/index.html", '{% extends "base.html" %}{% block body %}{{ name }}{% endblock %}')
    server.page(
        "shown",
        'from tqserver.page import render\n\n\ndef get():\n    return render("index.html", name="<x>")\n',
    )
    server.start()
    server.wait_body("/shown", "<b>&lt;x&gt;</b>")
    server.edit("pages/shown/index.html", '{% extends "base.html" %}{% block body %}hi {{ name }}{% endblock %}')
    server.wait_body("/shown", "<b>hi &lt;x&gt;</b>")
    server.edit("templates/base.html", "<i>{% block body %}{% endblock %}</i>")
    server.wait_body("/shown", "<i>hi &lt;x&gt;</i>")


def one_worker_left(server: Server, page: str, revisions: int = 0) -> None:
    """All revisions but the last are retired, and their processes gone."""

    def settled() -> bool:
        live = len(server.events("revision.live", page=page))
        retired = len(server.events("revision.retired", page=page))
        return live >= max(1, revisions) and retired == live - 1

    wait_until(settled, lambda: f"one live revision of {page}\n{server.tail()}")
    started = {line["pid"] for line in server.events("worker.ready", page=page)}
    alive = {process.pid for process in server.processes()}
    wait_until(lambda: len(started & {p.pid for p in server.processes()}) == 1, lambda: f"{started & alive}")
