"""A root zygote for all tests of a module, and the certainty that nothing is left after each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.played import PlayedControl, Start
from tqserver.host.process import become_subreaper


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    become_subreaper()


@pytest.fixture
def project() -> Iterator[Path]:
    """A project directory with a path short enough for sockets beside it."""
    with tempfile.TemporaryDirectory(prefix="tq") as top:
        path = Path(os.path.realpath(top)) / "project"
        path.mkdir()
        yield path


@pytest.fixture
def control(project: Path) -> Iterator[PlayedControl]:
    """Control, played, with a root zygote. Afterwards no process of it is left, not even a zombie."""
    played = PlayedControl(project)
    try:
        yield played
    finally:
        played.close()
    assert children() == []


@pytest.fixture
def start(control: PlayedControl) -> Start:
    """Write, build and fork a page; return it ready."""
    return control.start


def children() -> list[int]:
    """The processes whose parent this one is."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
