"""What the kernel tells of directories, by real events."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tqserver.host import inotify
from tqserver.host.inotify import Inotify
from tqserver.model.errors import HostError


@pytest.fixture
def watched() -> Iterator[Inotify]:
    source = Inotify()
    yield source
    source.close()


def told(source: Inotify, mask: int) -> list[str]:
    """The paths of the waiting events of this mask."""
    return [event.path for event in source.read() if event.mask & mask]


def test_a_closed_write_and_a_rename_are_told(watched: Inotify, tmp_path: Path) -> None:
    watched.add(str(tmp_path))
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert told(watched, inotify.CLOSE_WRITE | inotify.MOVED_TO) == [f"{tmp_path}/a", f"{tmp_path}/b"]


def test_a_directory_with_two_paths_tells_of_both(watched: Inotify, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("real", "link"):
        watched.add(f"{tmp_path}/{name}")
    (tmp_path / "real/a").write_text("x")
    assert told(watched, inotify.CLOSE_WRITE) == [f"{tmp_path}/real/a", f"{tmp_path}/link/a"]
    watched.remove(f"{tmp_path}/real")
    (tmp_path / "real/a").write_text("y")
    assert told(watched, inotify.CLOSE_WRITE) == [f"{tmp_path}/link/a"]


def test_a_renamed_directory_that_is_added_again_has_its_new_path_only(watched: Inotify, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    watched.add(f"{tmp_path}/old")
    (tmp_path / "old").rename(tmp_path / "new")
    watched.add(f"{tmp_path}/new")
    (tmp_path / "new/a").write_text("x")
    assert watched.directories == {f"{tmp_path}/new"}
    assert told(watched, inotify.CLOSE_WRITE) == [f"{tmp_path}/new/a"]


def test_another_directory_at_a_watched_path_takes_its_place(watched: Inotify, tmp_path: Path) -> None:
    (tmp_path / "at").mkdir()
    watched.add(f"{tmp_path}/at")
    (tmp_path / "at").rename(tmp_path / "away")
    (tmp_path / "at").mkdir()
    watched.add(f"{tmp_path}/at")
    (tmp_path / "away/a").write_text("x")
    (tmp_path / "at/b").write_text("x")
    assert told(watched, inotify.CLOSE_WRITE) == [f"{tmp_path}/at/b"]


def test_a_removed_directory_is_told_once_and_forgotten(watched: Inotify, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    watched.add(f"{tmp_path}/gone")
    (tmp_path / "gone").rmdir()
    assert told(watched, inotify.IGNORED) == [f"{tmp_path}/gone"]
    assert not watched.watches(f"{tmp_path}/gone")
    with pytest.raises(FileNotFoundError):
        watched.add(f"{tmp_path}/gone")


def test_events_are_added_and_set(watched: Inotify, tmp_path: Path) -> None:
    watched.add(str(tmp_path), inotify.NAMES)
    watched.add(str(tmp_path), inotify.OPEN)
    (tmp_path / "a").write_text("x")
    assert told(watched, inotify.CREATE | inotify.OPEN | inotify.CLOSE_WRITE) == [f"{tmp_path}/a"] * 2
    watched.set_events(str(tmp_path))
    (tmp_path / "a").write_text("y")
    assert told(watched, inotify.OPEN | inotify.CLOSE_WRITE) == [f"{tmp_path}/a"]


def test_no_descriptor_left_is_said_with_the_remedy() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with pytest.raises(OSError):
            while True:
                fillers.append(os.dup(0))
        with pytest.raises(HostError) as raised:
            Inotify()
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "sysctl fs.inotify.max_user_instances=" in raised.value.remedy
