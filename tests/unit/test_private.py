"""What the server keeps for itself cannot be prepared by others, wherever it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tqserver.build.store import Store, store_directory
from tqserver.host.private import private_directory
from tqserver.host.rundir import NAME, RunDirectory
from tqserver.model.errors import HostError

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory of a short name, in which sockets have room."""
    return tmp_path_factory.mktemp("p")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_it_and_those_above_it_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_directory(tmp_path / "a/b/c")
    finally:
        os.umask(before)
    assert [mode(tmp_path / path) for path in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_one_that_others_could_only_look_into_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    private_directory(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700


@pytest.mark.parametrize("rights", [0o777, 0o775, 0o1777])
def test_one_that_others_can_write_to_is_refused(tmp_path: Path, rights: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(rights)
    with pytest.raises(HostError, match="others can write to") as caught:
        private_directory(tmp_path / "a")
    assert "remove it" in caught.value.remedy
    assert mode(tmp_path / "a") == rights  # it does not pass the next time either


@as_root
def test_one_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", NOBODY, NOBODY)
    with pytest.raises(HostError, match="another user") as caught:
        private_directory(tmp_path / "a")
    assert caught.value.remedy


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_symbolic_link_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "a").symlink_to(target)
    with pytest.raises(HostError, match="symbolic link") as caught:
        private_directory(tmp_path / "a")
    assert caught.value.remedy
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a/b"):
        with pytest.raises(HostError) as caught:
            private_directory(path)
        assert caught.value.remedy


@as_root
def test_nobody_prepares_a_store_in_a_shared_place(tmp_path: Path) -> None:
    """Whose directory it is may rename what the server puts there, and put code of his own in its place."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    store = store_directory(tmp_path / "project", str(shared), tmp_path / "project" / NAME)
    first = store.relative_to(shared).parts[0]
    (shared / first).mkdir()
    (shared / first).chmod(0o777)
    os.chown(shared / first, NOBODY, NOBODY)
    with pytest.raises(HostError, match="another user") as caught:
        Store(store)
    assert "workers.temp_dir" in caught.value.remedy


@pytest.mark.parametrize("name", [NAME, f"{NAME}/run"])
def test_a_run_directory_that_was_prepared_is_refused(project: Path, name: str) -> None:
    (project / name).mkdir(parents=True)
    (project / NAME).chmod(0o700)
    (project / name).chmod(0o777)
    with pytest.raises(HostError, match="others can write to"):
        RunDirectory(project)


def test_a_run_directory_is_closed_to_others(project: Path) -> None:
    (project / NAME).mkdir()
    (project / NAME).chmod(0o755)
    run = RunDirectory(project)
    try:
        assert [mode(path) for path in (run.root, run.sockets, run.sockets.parent)] == [0o700] * 3
    finally:
        run.close()
