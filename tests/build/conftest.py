"""A project on disk, a store, a pipeline, and a reaper for what builds spawn."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES, detect
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store
from tqserver.host.process import reaper
from tqserver.model.pages import Page

Write = Callable[..., Path]
PageOf = Callable[..., Page]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty project."""
    project = tmp_path / "project"
    (project / "pages").mkdir(parents=True)
    return project


@pytest.fixture
def write(root: Path) -> Write:
    """Write a text to a file of the project."""

    def write_file(name: str, text: str = "", mode: int = 0o644) -> Path:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        file.chmod(mode)
        return file

    return write_file


@pytest.fixture
def page_of(root: Path) -> PageOf:
    """The page in a directory below pages/, as discovery would find it."""

    def find(name: str, *nested: str) -> Page:
        detected = detect(root / "pages" / name)
        assert detected is not None
        runtime, entry = detected
        return Page(name, str(root / "pages" / name), runtime.name, entry, nested)

    return find


@pytest.fixture
def project(root: Path) -> Project:
    return Project(root, "dev")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def pipeline(store: Store, project: Project) -> Pipeline:
    return Pipeline(store, RUNTIMES, project, concurrency=2, time_limit_seconds=120)


@pytest.fixture
async def reaped() -> AsyncIterator[None]:
    """Processes are reaped as they are under control."""
    reaper().install()
    yield
    reaper().close()
