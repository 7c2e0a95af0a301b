"""Fixtures: a server in a project of its own, checked for what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory starts real servers."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.system)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A project with nothing in it; the test writes pages and starts the server."""
    server = Server(tmp_path_factory.mktemp("p") / "site")
    yield server
    server.finish()
