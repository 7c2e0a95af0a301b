"""What two looks at the disk tell, and which file systems need such looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tqserver.control import scan as scanning
from tqserver.control.scan import differences, is_edit, scan
from tqserver.host.mounts import shared_devices, shares_among


def paths(tree: Path) -> set[str]:
    return {os.path.relpath(path, tree) for path in scan([str(tree)], [])}


def test_a_walk_follows_links_and_cuts_loops(tmp_path: Path) -> None:
    tree, outside = tmp_path / "pages", tmp_path / "outside"
    (tree / "a").mkdir(parents=True)
    (tree / "a/main.py").touch()
    outside.mkdir()
    (outside / "x.py").touch()
    (tree / "linked").symlink_to(outside)
    (tree / "again").symlink_to(tree / "a")
    (tree / "a/up").symlink_to(tree)
    (tree / "self").symlink_to(tree / "self")
    (tree / "nowhere").symlink_to("missing")
    expected = {".", "a", "a/main.py", "again", "again/main.py", "linked", "linked/x.py", "self", "nowhere"}
    assert paths(tree) == expected


def test_a_walk_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MOST_FILES", 5)
    tree, outside = tmp_path / "pages", tmp_path / "outside"
    (tree / "a").mkdir(parents=True)
    outside.mkdir()
    for number in range(10):
        (outside / f"{number}.py").touch()
        (tree / f"{number}.py").touch()
    for name, target in {"root": "/", "project": str(tmp_path), "proc": "/proc", "large": str(outside)}.items():
        (tree / "a" / name).symlink_to(target)
    (tree.joinpath(*["deep"] * 300)).mkdir(parents=True)
    found = paths(tree)
    own = {path for path in found if not path.startswith(("a/large/", "deep"))}
    assert own == {".", "a", "a/large", *(f"{number}.py" for number in range(10))}
    assert sum(path.startswith("a/large/") for path in found) == 5
    assert max(path.count("deep") for path in found) == scanning.DEEPEST


def test_a_link_that_is_looked_at_by_itself_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    assert list(scanning.walk(str(tmp_path / "root"), above=[str(tmp_path)])) == []


def test_what_is_no_part_of_a_page_is_not_looked_at(tmp_path: Path) -> None:
    for name in (".git/x", "__pycache__/x.pyc", "node_modules/x.js", "x.log", "x.py~"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert paths(tmp_path) == {"."}


def test_of_public_it_counts_that_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "page/public/deep").mkdir(parents=True)
    (tmp_path / "page/public/x.css").touch()
    assert paths(tmp_path) == {".", "page", "page/public"}


def save_with_the_old_time(file: Path) -> None:
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("one")
    other.replace(file)


CHANGES = {
    "edited": lambda file: file.write_text("longer"),
    "same size, same time": save_with_the_old_time,
    "replaced": replace,
    "removed": Path.unlink,
    "rights": lambda file: file.chmod(0o700),
}


@pytest.mark.parametrize("how", CHANGES)
def test_every_change_differs(tmp_path: Path, how: str) -> None:
    file = tmp_path / "main.py"
    file.write_text("one")
    before = scan([str(tmp_path)], [])
    CHANGES[how](file)
    assert differences(before, scan([str(tmp_path)], [])) == {str(file)}


def test_a_hard_link_is_no_edit(tmp_path: Path) -> None:
    file = tmp_path / "main.py"
    file.write_text("one")
    before = scan([], [str(file)])
    os.link(file, tmp_path / "backup")
    after = scan([], [str(file)])
    assert differences(before, after) == {str(file)}
    assert not is_edit(before[str(file)], after[str(file)])
    file.unlink()
    assert is_edit(before[str(file)], scan([], [str(file)]).get(str(file)))


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:51 / /work rw,relatime shared:2 master:1 - nfs4 server:/export rw
31 22 0:52 / /mnt/c rw - 9p drvfs rw
32 22 0:53 / /home/me/a\\040b rw - fuse.sshfs host: rw
33 22 0:54 / /sys/fs/fuse/connections rw - fusectl fusectl rw
34 22 0:55 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw
"""


def test_shares_are_known_by_their_type() -> None:
    shared = shared_devices(MOUNTINFO)
    assert shared == {os.makedev(0, 51): "nfs4", os.makedev(0, 52): "9p", os.makedev(0, 53): "fuse.sshfs"}
    assert shares_among([os.makedev(8, 1), os.makedev(0, 52)], shared) == ["9p"]
    assert shares_among([os.makedev(8, 1)], shared) == []


def test_this_machine_is_read_without_an_error() -> None:
    assert all(isinstance(device, int) for device in shared_devices())
