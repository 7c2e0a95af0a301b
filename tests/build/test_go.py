"""Go pages: built, and told what is wrong with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tqserver.build.pipeline import Artifact, Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes import go
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store
from tqserver.host.process import reaper
from tqserver.model.errors import BuildError, ToolchainMissing
from tqserver.model.pages import Page

MAIN = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Print("made") }\n'
SDK = Path(__file__).parents[2] / "sdk" / "go"


async def build(root: Path) -> Artifact:
    page = Page("a", str(root / "pages" / "a"), "go", "main.go")
    pipeline = Pipeline(Store(root / "store"), RUNTIMES, Project(root, "dev"), 2, 120.0)
    reaper().install()
    try:
        return await pipeline.build(page, pipeline.read(page, []))
    finally:
        reaper().close()


def write(root: Path, text: str) -> None:
    (root / "pages" / "a").mkdir(parents=True, exist_ok=True)
    (root / "pages" / "a" / "main.go").write_text(text)


async def test_a_page_without_a_module_is_built_and_reused(tmp_path: Path) -> None:
    write(tmp_path, MAIN)
    made = await build(tmp_path)
    assert subprocess.run([made.path / "page"], capture_output=True, check=True).stdout == b"made"
    assert (await build(tmp_path)).reused


async def test_a_page_of_a_module_sees_its_packages(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example.org/site\n\ngo 1.21\n")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "p.go").write_text('package pkg\n\nconst Word = "one"\n')
    write(tmp_path, MAIN.replace('"fmt"', '("fmt"; "example.org/site/pkg")').replace('"made"', "pkg.Word"))
    first = await build(tmp_path)
    (tmp_path / "pkg" / "p.go").write_text('package pkg\n\nconst Word = "two"\n')
    second = await build(tmp_path)
    outputs = [subprocess.run([a.path / "page"], capture_output=True, check=True).stdout for a in (first, second)]
    assert outputs == [b"one", b"two"]


async def test_a_compiler_error_has_its_place_in_the_project(tmp_path: Path) -> None:
    write(tmp_path, "package main\n\nfunc main() { missing() }\n")
    with pytest.raises(BuildError) as raised:
        await build(tmp_path)
    assert str(raised.value.location) == "pages/a/main.go:3:15"
    assert "undefined: missing" in raised.value.message
    assert "pages/a/main.go:3:15" in raised.value.output


async def test_a_missing_toolchain_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, MAIN)
    monkeypatch.setattr(go, "find_toolchain", lambda: None)
    with pytest.raises(ToolchainMissing, match="not installed") as raised:
        await build(tmp_path)
    assert "pip install 'tqserver[go]'" in raised.value.remedy


def test_a_script_called_go_counts_where_there_is_nothing_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "go"
    shim.write_text("#!/bin/sh\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: None)
    assert go.find_toolchain() == shim
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: Path("/better/go"))
    assert go.find_toolchain() == Path("/better/go")
    shim.unlink()
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: None)
    assert go.find_toolchain() is None


def test_the_worker_package() -> None:
    toolchain = go.find_toolchain()
    assert toolchain is not None
    done = subprocess.run(
        [toolchain, "test", "./..."],
        cwd=SDK,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
