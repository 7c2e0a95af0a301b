"""The machine misbehaves: a full disk, logs that cannot be written, a project that moves. The rest serves on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system import sources
from tests.system.harness import Server, wait_until
from tests.system.load import Load

LOUD = """\
import os


def get(request):
    if request.query_params.get("loud"):
        for _ in range(100):
            os.write(1, b"x" * 1_000_000)
        os.write(1, b"\\n")
    return "quiet"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: it takes root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_leaves_what_runs_and_says_so(server: Server, small_disk: Path) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.configure(f"workers:\n  temp_dir: {small_disk}\n")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    since = server.mark()
    server.edit("pages/page/main.py", sources.plain("v1"))
    failed = wait_until(
        lambda: server.events("page.failed", since, page="page") + server.events("build.failed", since, page="page"),
        server.tail,
    )[0]
    assert "No space left" in failed["error"]
    assert failed["remedy"]
    assert server.get("/page").text == "v0"
    ballast.unlink()
    server.edit("pages/page/main.py", sources.plain("v2"))
    server.wait_body("/page", "v2")


def test_a_log_that_cannot_be_written_costs_no_request(server: Server) -> None:
    server.page("page", sources.plain("v0"))
    server.write("nowhere", "a file, where the configuration wants a directory\n")
    server.configure("workers:\n  default:\n    log_file: nowhere/page.log\n")
    server.start()
    server.wait_body("/page", "v0")
    server.edit("pages/page/main.py", 'print("lost")\n' + sources.plain("v1"))
    server.wait_body("/page", "v1")
    wait_until(lambda: "nowhere/page.log" in server.terminal, server.tail)


def test_a_hundred_megabytes_without_a_newline(server: Server) -> None:
    """They are in the log whole, in pieces, and not in anybody's memory."""
    server.configure("workers:\n  default:\n    log_file: logs/{path}.log\n")
    server.page("loud", LOUD)
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    server.wait_body("/loud", "quiet")
    supervisor = psutil.Process(server.pid)
    resident = supervisor.memory_info().rss
    assert server.get("/loud?loud=1").text == "quiet"
    assert server.get("/page").text == "v0"
    log = server.root / "logs" / "loud.log"
    wait_until(lambda: log.exists() and log.read_bytes().count(b"x") == 100_000_000, lambda: str(log.stat()))
    assert supervisor.memory_info().rss - resident < 20_000_000
    assert server.get("/page").text == "v0"


def test_the_clock_jumps(server: Server, tmp_path: Path) -> None:
    """Days ahead and back: deadlines, rests and retirements go by the time that only runs."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing (apt-get install faketime)")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    server.page("page", sources.functions("v0"))
    server.start(
        env={
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    )
    server.wait_live("page")
    with Load(server.port, "/page", downloads=False) as load:
        for version, jump in enumerate(("+2d", "-3d", "+400d", "+0"), 1):
            since = server.mark()
            offset.write_text(jump)
            server.edit("pages/page/main.py", sources.functions(f"v{version}"))
            server.wait_live("page", since)
            load.switched(version)
            server.wait_log("revision.retired", since)
    load.assert_no_failure()


def test_a_project_that_moves_and_comes_back(server: Server) -> None:
    """What runs goes on; what is saved meanwhile is live when the directory is there again."""
    server.expect_errors("pages.missing")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    pages, away = server.root / "pages", server.root / "away"
    since = server.mark()
    pages.rename(away)
    missing = server.wait_log("pages.missing", since)
    assert missing["remedy"]
    assert server.get("/page").text == "v0"
    (away / "page" / "main.py").write_text(sources.plain("v1"))
    away.rename(pages)
    server.wait_body("/page", "v1")
