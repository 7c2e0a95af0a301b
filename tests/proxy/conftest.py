"""Fixtures: a proxy that tests share, each with its own table; and one of its own for those that end it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.rig import LARGE, STYLE, Proxy, Worker, page, with_files


@pytest.fixture(scope="package")
def shared_proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    assert proxy.process.poll() is None, "the proxy ended during the tests"
    proxy.stop()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    yield worker
    worker.stop()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Worker]:
    """A second worker."""
    other = Worker(tmp_path)
    yield other
    other.stop()


@pytest.fixture
def proxy(shared_proxy: Proxy, worker: Worker) -> Iterator[Proxy]:
    """A proxy with one page, at /, that has one worker."""
    shared_proxy.route(page(worker))
    yield shared_proxy
    shared_proxy.hang_up()


@pytest.fixture
def own_proxy(worker: Worker) -> Iterator[Proxy]:
    """The same, but the test may end it."""
    proxy = Proxy()
    proxy.route(page(worker))
    yield proxy
    proxy.stop()


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public/ directory with a small and a large file."""
    directory = tmp_path / "pages/index/public"
    (directory / "deep").mkdir(parents=True)
    (directory / "style.css").write_bytes(STYLE)
    (directory / "deep/large.bin").write_bytes(LARGE)
    return directory


@pytest.fixture
def site(proxy: Proxy, worker: Worker, public: Path) -> Proxy:
    """A page at / with these files, and a worker, which is asked for nothing unless a test says so."""
    proxy.route(with_files(public, worker))
    return proxy
