"""Artifacts are whole or absent; digests say what they must."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tqserver.build.fingerprint import digest_of, is_ignored, page_files, read_inputs
from tqserver.build.registry import detect
from tqserver.build.runner import run
from tqserver.build.runtimes.base import Inputs, Project
from tqserver.build.store import Store
from tqserver.host.process import reaper
from tqserver.model.errors import BuildError, PageError
from tqserver.model.pages import Page


def make_page(root: Path, **files: str) -> Page:
    directory = root / "pages" / "a"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return Page("a", str(directory), "python", "main.py")


def digest(root: Path, page: Page) -> str:
    inputs = Inputs(page_files(page))
    return digest_of(page, Project(root, "dev"), inputs, read_inputs(inputs))


def test_the_digest_follows_content_name_and_mode_and_nothing_else(tmp_path: Path) -> None:
    page = make_page(tmp_path, main__py="1", x__html="2")
    file = Path(page.directory, "x.html")
    seen = [digest(tmp_path, page)]
    os.utime(file, (1, 1))
    (file.parent / "data.db").write_text("not an input")
    assert digest(tmp_path, page) == seen[0]
    for change in (
        lambda: file.write_text("3"),
        lambda: file.chmod(0o755),
        lambda: file.rename(file.with_suffix(".y")),
    ):
        change()
        seen.append(digest(tmp_path, page))
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    "name", ["main.py~", ".main.py.swp", "4913", "#x#", "__pycache__", "a.pyc", "x.db-wal", ".git"]
)
def test_droppings_are_no_inputs(name: str) -> None:
    assert is_ignored(name)


def test_a_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path) -> None:
    page = make_page(tmp_path, main__py="1")
    loop = Path(page.directory, "loop.py")
    loop.symlink_to(loop)
    with pytest.raises(PageError) as raised:
        digest(tmp_path, page)
    assert raised.value.location is not None
    assert raised.value.location.file == str(loop)
    assert "remove it" in raised.value.remedy


def test_an_artifact_is_published_once_and_collected_by_reference(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in ("aa11", "bb22"):
        with store.scratch() as scratch:
            (scratch / "out").mkdir()
            (scratch / "out" / "file").write_text(name)
            store.publish(scratch / "out", name)
    with store.scratch() as scratch:
        (scratch / "out").mkdir()
        assert (store.publish(scratch / "out", "aa11") / "file").read_text() == "aa11"
    assert store.collect({"aa11"}) == ["bb22"]
    assert store.has("aa11")
    assert not store.has("bb22")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["aa", "bb"]


async def test_output_is_whole_and_in_order(tmp_path: Path) -> None:
    reaper().install()
    try:
        script = "yes line | head -n 200000; echo end >&2; exit 3"
        done = await run(["sh", "-c", script], cwd=tmp_path, env=os.environ, time_limit_seconds=60)
    finally:
        reaper().close()
    assert done.code == 3
    assert done.output == "line\n" * 200000 + "end\n"


async def test_a_build_over_its_time_is_killed_with_its_children(tmp_path: Path) -> None:
    reaper().install()
    try:
        script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo began; wait"
        with pytest.raises(BuildError) as raised:
            await run(["sh", "-c", script], cwd=tmp_path, env=os.environ, time_limit_seconds=0.5)
    finally:
        reaper().close()
    assert raised.value.output == "began\n"
    status = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_two_languages_are_an_error_that_page_yaml_decides(tmp_path: Path) -> None:
    page = make_page(tmp_path, main__py="1", main__go="package main\n")
    directory = Path(page.directory)
    with pytest.raises(PageError, match="two languages"):
        detect(directory)
    (directory / "page.yaml").write_text("runtime: go\n")
    found = detect(directory)
    assert found is not None
    assert (found[0].name, found[1]) == ("go", "main.go")
    (directory / "page.yaml").write_text("runtime: go\nspeed: 1\n")
    with pytest.raises(PageError) as raised:
        detect(directory)
    assert str(raised.value.location).endswith("page.yaml:2:1")
