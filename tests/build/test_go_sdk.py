"""The worker package of Go pages: its own tests, run by its own tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tqserver.build.runtimes import go


@pytest.fixture
def toolchain() -> Path:
    found = go.find_toolchain()
    assert found is not None, "the tests need Go: the dev extra with the go extra, or the distribution's"
    return found


def test_the_worker_package_passes_its_own_tests(toolchain: Path) -> None:
    for arguments in (["vet", "./..."], ["test", "-count=1", "./..."]):
        done = subprocess.run(
            [toolchain, *arguments], cwd=go._sdk_directory(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_worker_package_is_formatted(toolchain: Path) -> None:
    gofmt = shutil.which("gofmt", path=str(toolchain.parent)) or shutil.which("gofmt")
    assert gofmt is not None
    done = subprocess.run([gofmt, "-l", go._sdk_directory()], capture_output=True, text=True, check=True)
    assert done.stdout == ""
