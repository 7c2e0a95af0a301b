"""What the watcher does when events cannot be trusted: the probe, the audit, and polling."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.watching import NEVER_SECONDS, SELDOM, Watching
from tqserver.control import tree_events, watcher
from tqserver.control.scan import scan
from tqserver.control.watcher import Pace
from tqserver.host import inotify
from tqserver.model.errors import HostError

Make = Callable[..., Watching]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Make a watcher with a page ``p``, not yet started."""
    monkeypatch.delenv(watcher.POLLING_VARIABLE, raising=False)
    made: list[Watching] = []

    def make(pace: Pace = SELDOM, shares: dict[int, str] | None = None) -> Watching:
        watching = Watching(tmp_path / "site", pace, shares or {})
        monkeypatch.setattr(watcher, "log", watching.log)
        monkeypatch.setattr(tree_events, "log", watching.log)
        watching.write("pages/p/main.py")
        made.append(watching)
        return watching

    yield make
    for watching in made:
        await watching.close()


# --- the probe --------------------------------------------------------------------------------------------


async def test_events_that_come_are_believed(make: Make) -> None:
    watching = make(Pace(NEVER_SECONDS, NEVER_SECONDS, probe_seconds=0.0)).start()
    await watching.edited("pages/p/main.py")
    assert watching.watcher.polling == ""
    assert sorted(os.listdir(watching.root / "pages")) == ["p"]  # the probe has left nothing


async def test_events_that_do_not_come_are_replaced_by_polling(make: Make) -> None:
    watching = make(Pace(NEVER_SECONDS, 0.01, probe_seconds=0.01))
    watching.inotify.lost = ~0
    watching.start()
    await watching.until(lambda: watching.watcher.polling)
    await watching.edited("pages/p/main.py")
    (line,) = watching.log.of("watcher.polling")
    assert line["level"] == "error"
    assert line["directory"] == f"{watching.root}/pages"
    assert "no event came" in line["reason"]
    assert watcher.POLLING_VARIABLE in line["remedy"]


# --- limits -----------------------------------------------------------------------------------------------


async def test_no_watch_left_at_start(make: Make) -> None:
    watching = make()
    watching.inotify.full_at = "p"
    watching.start()
    (line,) = watching.log.of("watcher.polling")
    assert line["level"] == "error"
    assert f"cannot watch {watching.root}/pages/p" in line["reason"]
    assert "sysctl" in line["remedy"]
    await watching.edited("pages/p/main.py")


async def test_no_watch_left_for_a_new_page(make: Make) -> None:
    watching = make().start()
    watching.inotify.full_at = "one-too-many"
    watching.write("pages/one-too-many/main.py")
    await watching.told("pages/one-too-many")
    assert f"{watching.root}/pages/one-too-many" in watching.watcher.polling
    await watching.edited("pages/one-too-many/main.py")
    await watching.edited("pages/p/main.py")


async def test_no_watch_left_for_a_file_that_is_read(make: Make) -> None:
    watching = make().start()
    watching.write("templates/base.html")
    watching.inotify.full_at = "templates"
    watching.watcher.also([f"{watching.root}/templates/base.html"])
    assert len(watching.log.of("watcher.polling")) == 1
    await watching.edited("templates/base.html")


async def test_no_instance_left(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = make()

    def refuse() -> inotify.Inotify:
        raise HostError("inotify cannot be used", remedy="raise it: sysctl")

    monkeypatch.setattr(watching.watcher, "_open_inotify", refuse)
    watching.start()
    assert watching.watcher.polling == "inotify cannot be used"
    await watching.edited("pages/p/main.py")
    watching.inotify.close()


# --- the audit --------------------------------------------------------------------------------------------


async def test_an_audit_finds_what_made_no_event(make: Make) -> None:
    watching = make().start()
    watching.inotify.is_deaf = True
    watching.write("pages/p/main.py", "edited")
    watching.write("pages/unseen/main.py")
    await watching.watcher.look()
    await watching.told("pages/p/main.py", "pages/unseen", "pages/unseen/main.py")
    assert watching.watcher.missed == 3
    (line,) = watching.log.of("watch.missed")
    assert line["level"] == "warning"
    assert line["count"] == line["total"] == 3
    assert f"{watching.root}/pages/unseen/main.py" in line["paths"]
    watching.inotify.is_deaf = False  # what was made unseen is watched from now on
    await watching.edited("pages/unseen/main.py")
    assert watching.watcher.polling == ""


async def test_an_audit_finds_what_is_written_through_memory(make: Make) -> None:
    """mmap(2): the kernel makes no event of it at all."""
    watching = make()
    file = watching.write("pages/p/data.txt", "one")
    watching.start()
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 3) as memory:
        await watching.watcher.look()
        memory[:] = b"two"
        memory.flush()
        await watching.watcher.look()
        assert watching.watcher.missed == 1
        await watching.told("pages/p/data.txt")


async def test_an_audit_of_what_events_told_counts_nothing(make: Make) -> None:
    watching = make().start()
    await watching.watcher.look()
    watching.write("pages/p/main.py", "edited")
    watching.write("pages/new/deep/main.py")
    await watching.watcher.look()
    await watching.told("pages/p/main.py", "pages/new")
    os.link(watching.root / "pages/p/main.py", watching.root / "backup")
    await watching.watcher.look()
    assert watching.watcher.missed == 0
    assert watching.log.of("watch.missed") == []


async def test_an_audit_of_what_has_not_changed_tells_nothing(make: Make) -> None:
    watching = make()
    watching.write("templates/base.html")
    watching.start()
    watching.watcher.also([f"{watching.root}/templates/base.html"])
    for _ in range(3):
        await watching.watcher.look()
    (watching.root / "pages/p/x.py").touch()
    assert await watching.told("pages/p/x.py") == {"pages/p/x.py"}


async def test_an_audit_holds_back_what_is_being_written(make: Make) -> None:
    watching = make().start()
    with (watching.root / "pages/p/main.py").open("w") as file:
        file.write("half of")
        file.flush()
        await watching.watcher.look()
        assert watching.untold() == set()
        file.write(" a program")
    await watching.told("pages/p/main.py")


async def test_audits_are_made_without_being_asked_for(make: Make) -> None:
    watching = make(Pace(0.01, NEVER_SECONDS, NEVER_SECONDS)).start()
    watching.inotify.is_deaf = True
    await watching.edited("pages/p/main.py")
    await watching.edited("pages/p/main.py")
    assert watching.watcher.missed == 2


async def test_an_audit_finds_a_tree_that_came_back_unseen(make: Make) -> None:
    watching = make().start()
    watching.inotify.is_deaf = True
    shutil.rmtree(watching.root)
    await watching.watcher.look()
    watching.write("pages/p/main.py", "again")
    await watching.watcher.look()
    await watching.told("pages", "pages/p/main.py")
    watching.inotify.is_deaf = False
    await watching.edited("pages/p/main.py")


# --- polling ----------------------------------------------------------------------------------------------


@pytest.fixture
def polled(make: Make, monkeypatch: pytest.MonkeyPatch) -> Watching:
    monkeypatch.setenv(watcher.POLLING_VARIABLE, "1")
    return make()


async def test_polling_sees_what_happens_to_a_tree(polled: Watching) -> None:
    polled.start()
    (line,) = polled.log.of("watcher.polling")
    assert line["level"] == "warning"
    assert line["reason"] == f"{watcher.POLLING_VARIABLE} is set"
    await polled.edited("pages/p/main.py")
    polled.write("pages/new/deep/main.py")
    await polled.told("pages/new", "pages/new/deep/main.py")
    (polled.root / "pages/new").rename(polled.root / "pages/renamed")
    await polled.told("pages/new", "pages/renamed/deep/main.py")
    shutil.rmtree(polled.root / "pages/renamed")
    await polled.told("pages/renamed", "pages/renamed/deep/main.py")
    shutil.rmtree(polled.root / "pages")
    await polled.told("pages")
    polled.write("pages/p/main.py")
    await polled.told("pages/p/main.py")


async def test_polling_sees_two_saves_of_one_size_in_one_instant(polled: Watching) -> None:
    file = polled.write("pages/p/main.py", "one")
    polled.start()
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    await polled.told("pages/p/main.py")


async def test_polling_sees_files_beside_the_tree(polled: Watching) -> None:
    polled.start()
    polled.write("templates/base.html")
    polled.watcher.also([f"{polled.root}/templates/base.html"])
    polled.write("templates/unrelated.html")
    await polled.edited("templates/base.html")
    assert "templates/unrelated.html" not in polled.untold()


async def test_polling_waits_for_a_writer_but_not_for_ever(polled: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    polled.start()
    file = polled.root / "pages/p/main.py"

    def write_after_scan(*arguments: object) -> object:
        found = scan(*arguments)  # type: ignore[arg-type]
        file.write_text(file.read_text() + "x")
        return found

    polled.watcher.close()  # looks are made by the test
    monkeypatch.setattr(watcher, "scan", write_after_scan)
    for _ in range(2):  # the first scan sees nothing: it writes
        await polled.watcher.look()
    assert polled.untold() == set()
    await polled.watcher.look()
    assert polled.untold() == {"pages/p/main.py"}


async def test_a_share_is_polled_beside_its_events(make: Make, tmp_path: Path) -> None:
    watching = make(shares={tmp_path.stat().st_dev: "nfs4"}).start()
    (line,) = watching.log.of("watcher.polling")
    assert line["level"] == "warning"
    assert "nfs4" in line["reason"]
    watching.inotify.is_deaf = True  # written by another machine
    await watching.edited("pages/p/main.py")
    assert watching.watcher.missed == 0
