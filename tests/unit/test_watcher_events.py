"""Watching by events: all that can happen to a tree, and each time the question whether the next edit is seen."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.watching import SELDOM, Watching
from tqserver.control import tree_events, watcher


@pytest.fixture
async def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watching]:
    """A watcher with a page ``p``, not yet started, that never looks for itself: only events tell."""
    monkeypatch.delenv(watcher.POLLING_VARIABLE, raising=False)
    watching = Watching(tmp_path / "site", SELDOM, {})
    monkeypatch.setattr(watcher, "log", watching.log)
    monkeypatch.setattr(tree_events, "log", watching.log)
    watching.write("pages/p/main.py")
    yield watching
    await watching.close()
    assert watching.log.of("watcher.polling") == []


async def test_edits_new_directories_renames_and_removals(watching: Watching) -> None:
    watching.start()
    await watching.edited("pages/p/main.py")
    watching.write("pages/new/deep/main.py")
    await watching.told("pages/new")
    await watching.edited("pages/new/deep/main.py")
    (watching.root / "pages/new").rename(watching.root / "pages/renamed")
    await watching.told("pages/new", "pages/renamed")
    await watching.edited("pages/renamed/deep/main.py")
    (watching.root / "pages/p/main.py").unlink()
    await watching.told("pages/p/main.py")
    shutil.rmtree(watching.root / "pages/renamed")
    await watching.told("pages/renamed")


async def test_what_is_no_part_of_a_page_is_not_told(watching: Watching) -> None:
    watching.start()
    watching.write("pages/p/node_modules/x/index.js")
    watching.write("pages/p/.main.py.swp")
    await watching.edited("pages/p/main.py")
    watching.write("pages/p/node_modules/x/index.js", "edited")
    watching.write("config/server.yaml")  # beside the tree, whose directory above is watched for names
    (watching.root / "pages/p/other.py").touch()
    assert await watching.told("pages/p/other.py") == {"pages/p/other.py"}


async def test_of_public_it_is_told_that_it_comes_and_goes(watching: Watching) -> None:
    watching.start()
    public = watching.root / "pages/p/public"
    public.mkdir()
    await watching.told("pages/p/public")
    watching.write("pages/p/public/style.css")
    watching.write("pages/p/public/deep/style.css")
    await watching.edited("pages/p/main.py")
    (watching.root / "pages/p/other.py").touch()
    assert await watching.told("pages/p/other.py") == {"pages/p/other.py"}
    public.rename(watching.root / "pages/p/elsewhere")
    await watching.told("pages/p/public", "pages/p/elsewhere")
    public.symlink_to("elsewhere")
    await watching.told("pages/p/public")
    public.unlink()
    await watching.told("pages/p/public")


async def test_a_directory_that_becomes_readable_is_watched(watching: Watching) -> None:
    watching.inotify.unreadable = "p"
    watching.write("pages/other/main.py")
    watching.start()
    await watching.edited("pages/other/main.py")
    watching.inotify.unreadable = None
    (watching.root / "pages/p").chmod(0o755)
    await watching.told("pages/p")
    await watching.edited("pages/p/main.py")


# --- the tree itself --------------------------------------------------------------------------------------


async def test_a_tree_that_is_removed_and_made_again(watching: Watching) -> None:
    watching.start()
    for _ in range(2):
        shutil.rmtree(watching.root / "pages")
        await watching.told("pages")
        watching.write("pages/p/main.py")
        await watching.told("pages")
        await watching.edited("pages/p/main.py")


async def test_a_tree_in_whose_place_another_is_moved(watching: Watching) -> None:
    watching.write("other/q/main.py")
    watching.start()
    (watching.root / "pages").rename(watching.root / "old")
    (watching.root / "other").rename(watching.root / "pages")
    await watching.told("pages")
    await watching.edited("pages/q/main.py")
    watching.write("old/p/main.py", "not ours any more")
    (watching.root / "pages/q/x.py").touch()
    assert await watching.told("pages/q/x.py") == {"pages/q/x.py"}


async def test_a_tree_that_is_a_link_to_a_release(watching: Watching) -> None:
    """A deployment switches a symbolic link by a rename."""
    (watching.root / "pages").rename(watching.root / "one")
    (watching.root / "pages").symlink_to("one")
    watching.write("two/p/main.py")
    watching.start()
    await watching.edited("one/p/main.py", tells="pages/p/main.py")
    (watching.root / "next").symlink_to("two")
    (watching.root / "next").replace(watching.root / "pages")
    await watching.told("pages")
    await watching.edited("two/p/main.py", tells="pages/p/main.py")
    watching.write("one/p/main.py", "not ours any more")
    (watching.root / "two/p/x.py").touch()
    assert await watching.told("pages/p/x.py") == {"pages/p/x.py"}


async def test_a_tree_whose_project_is_removed_and_made_again(watching: Watching) -> None:
    helper = watching.write("helper.py")
    watching.start()
    watching.watcher.also([str(helper)])
    for _ in range(2):
        shutil.rmtree(watching.root)
        await watching.told("pages", "helper.py")
        watching.write("pages/p/main.py")
        watching.write("helper.py")
        await watching.told("pages", "helper.py")
        await watching.edited("pages/p/main.py")
        await watching.edited("helper.py")


# --- symbolic links ---------------------------------------------------------------------------------------


async def test_a_page_that_is_a_link(watching: Watching) -> None:
    for name in ("one", "two"):
        watching.write(f"elsewhere/{name}/main.py")
    link = watching.root / "pages/linked"
    link.symlink_to("../elsewhere/one")
    watching.start()
    await watching.edited("elsewhere/one/main.py", tells="pages/linked/main.py")
    link.unlink()
    await watching.told("pages/linked")
    link.symlink_to("../elsewhere/two")
    await watching.told("pages/linked")
    await watching.edited("elsewhere/two/main.py", tells="pages/linked/main.py")


async def test_a_link_to_another_page(watching: Watching) -> None:
    (watching.root / "pages/also").symlink_to("p")
    watching.start()
    watching.write("pages/p/main.py", "edited")
    await watching.told("pages/p/main.py", "pages/also/main.py")


async def test_a_file_that_is_a_link(watching: Watching) -> None:
    one, two = watching.write("elsewhere/one.py"), watching.write("other/two.py")
    link = watching.root / "pages/p/helper.py"
    link.symlink_to(one)
    watching.start()
    await watching.edited("elsewhere/one.py", tells="pages/p/helper.py")
    link.unlink()
    link.symlink_to(two)
    await watching.told("pages/p/helper.py")
    await watching.edited("other/two.py", tells="pages/p/helper.py")
    watching.write("elsewhere/one.py", "no longer linked")
    watching.write("other/unrelated.py")
    (watching.root / "pages/p/x.py").touch()
    assert await watching.told("pages/p/x.py") == {"pages/p/x.py"}


# --- files beside the trees -------------------------------------------------------------------------------


async def test_a_file_that_a_page_has_read(watching: Watching) -> None:
    watching.write("templates/base.html")
    watching.start()
    watching.watcher.also([f"{watching.root}/templates/base.html"])
    watching.write("templates/unrelated.html")
    await watching.edited("templates/base.html")
    shutil.rmtree(watching.root / "templates")
    await watching.told("templates/base.html")
    watching.write("templates/base.html")
    await watching.told("templates/base.html")
    await watching.edited("templates/base.html")


async def test_a_file_in_the_directory_above_the_tree(watching: Watching) -> None:
    watching.write("helper.py")
    watching.start()
    watching.watcher.also([f"{watching.root}/helper.py"])
    await watching.edited("helper.py")


async def test_a_file_whose_directories_all_go_and_come_back(watching: Watching) -> None:
    watching.write("lib/deep/mod.py")
    watching.start()
    watching.watcher.also([f"{watching.root}/lib/deep/mod.py"])
    shutil.rmtree(watching.root / "lib")
    await watching.told("lib/deep/mod.py")
    watching.write("lib/deep/mod.py")
    await watching.told("lib/deep/mod.py")
    await watching.edited("lib/deep/mod.py")


async def test_a_file_that_is_a_link_beside_the_tree(watching: Watching) -> None:
    watching.write("elsewhere/base.html")
    watching.write("templates/other.html")
    (watching.root / "templates/base.html").symlink_to("../elsewhere/base.html")
    watching.start()
    watching.watcher.also([f"{watching.root}/templates/base.html"])
    await watching.edited("elsewhere/base.html", tells="templates/base.html")


# --- overflow ---------------------------------------------------------------------------------------------


async def test_a_queue_that_overflows_tells_of_everything(watching: Watching) -> None:
    """More events than the kernel keeps; among those that are lost is a new page's."""
    watching.start()
    helper = watching.write("helper.py")
    watching.watcher.also([str(helper)])
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 200_000:
        pytest.skip(f"fs.inotify.max_queued_events is {limit}: too many to make")
    files = [watching.write("pages/p/a.py"), watching.write("pages/p/b.py")]
    for file in itertools.islice(itertools.cycle(files), limit):
        os.utime(file)  # alternating: the kernel makes one of two equal events in a row
    watching.write("pages/unseen/main.py")
    await watching.told("pages", "helper.py")
    await watching.edited("pages/unseen/main.py")
    assert len(watching.log.of("watcher.overflow")) == 1
