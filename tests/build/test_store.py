"""An artifact is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tqserver.build.store import Store, store_directory
from tqserver.model.errors import HostError

DIGEST = "ab" * 16
OTHER = "cd" * 16


def publish(store: Store, digest: str, text: str) -> Path:
    with store.scratch() as scratch:
        made = scratch / "artifact"
        made.mkdir()
        (made / "file").write_text(text)
        return store.publish(made, digest)


def visible(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_an_artifact_appears_by_one_rename(store: Store, tmp_path: Path) -> None:
    assert not store.has(DIGEST)
    path = publish(store, DIGEST, "one")
    assert store.has(DIGEST) and path == store.path_of(DIGEST) == tmp_path / "store" / "ab" / DIGEST
    assert (path / "file").read_text() == "one"
    assert visible(tmp_path / "store") == {"ab"}


def test_an_artifact_that_is_there_is_kept(store: Store) -> None:
    publish(store, DIGEST, "one")
    assert (publish(store, DIGEST, "two") / "file").read_text() == "one"


def test_a_build_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.scratch() as scratch:
        (scratch / "half").write_text("")
        raise RuntimeError
    assert visible(tmp_path / "store") == set()


def test_what_a_killed_build_left_is_swept_and_was_never_visible(store: Store, tmp_path: Path) -> None:
    publish(store, DIGEST, "one")
    killed = store.scratch()
    (killed.__enter__() / "artifact").mkdir()
    assert not store.has(OTHER)
    Store(tmp_path / "store").sweep()
    assert visible(tmp_path / "store") == {"ab"} and store.has(DIGEST)


def test_what_is_set_aside_is_gone_at_once(store: Store, tmp_path: Path) -> None:
    publish(store, DIGEST, "one")
    publish(store, OTHER, "two")
    assert store.digests() == {DIGEST, OTHER}
    grave = store.set_aside({OTHER, "ef" * 16})
    assert store.has(DIGEST) and not store.has(OTHER)
    assert (publish(store, OTHER, "again") / "file").read_text() == "again"
    store.destroy(grave)
    assert visible(tmp_path / "store") == {"ab", "cd"} and store.digests() == {DIGEST, OTHER}


def test_a_removal_that_is_cut_short_is_swept(store: Store, tmp_path: Path) -> None:
    publish(store, DIGEST, "one")
    store.set_aside({DIGEST})
    assert store.digests() == frozenset()
    Store(tmp_path / "store").sweep()
    assert visible(tmp_path / "store") == {"ab"}


def test_a_directory_outside_the_project_is_shared_by_projects(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert store_directory(one, None, one / ".tqserver") == one / ".tqserver" / "store"
    assert store_directory(one, "temp", one / ".tqserver") == one / "temp" / "store"
    assert store_directory(one, "../temp", one) != store_directory(two, "../temp", two)
    shared = {store_directory(project, str(tmp_path / "shared"), project) for project in (one, two)}
    assert len(shared) == 2 and all(path.is_relative_to(tmp_path / "shared") for path in shared)


def test_only_its_owner_may_look_into_it(store: Store, tmp_path: Path) -> None:
    publish(store, DIGEST, "one")
    for path in (tmp_path / "store", tmp_path / "store" / "ab"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_no_directory_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError) as caught:
        Store(tmp_path / "file" / "store")
    assert "workers.temp_dir" in caught.value.remedy
