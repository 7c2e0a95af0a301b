"""From no worker to an answer, and what one more worker costs in memory.

Each page is asked once while it has no worker (``min_workers: 0``), in turn with the peers: the same program started
by hand and asked until it answers. Memory is of a FastAPI page with several workers: PSS counts a shared page of
memory by its share, private memory is what goes when the worker goes.

    make bench-cold              (ARGS="--pages 20" for more)
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.reload import FASTAPI, FUNCTION, GO
from bench.serving import Server, free_port, until_shows
from tqserver.build.runtimes.go import find_toolchain

ASLEEP = "workers:\n  default:\n    min_workers: 0\n"
POOL = 4
AWAKE = f"workers:\n  default:\n    min_workers: {POOL}\n    max_workers: {POOL}\n"
REST_SECONDS = 2.0  # after the start, so that builds are over and zygotes hold what pages import
Row = tuple[str, list[float]]


def site(root: Path, settings: str, pages: Mapping[str, tuple[str, str]]) -> Path:
    """Write a project; ``pages`` are names with their entry file and its text."""
    (root / "config").mkdir(parents=True)
    (root / "config" / "server.yaml").write_text(settings)
    for page, (entry, text) in pages.items():
        (root / "pages" / page).mkdir(parents=True)
        (root / "pages" / page / entry).write_text(text)
    return root


def timed(port: int, path: str) -> float:
    begun = time.perf_counter()
    until_shows(port, path, b"HTTP/1.1 200", poll_seconds=0.001)
    return (time.perf_counter() - begun) * 1000


def ours(root: Path, pages: int) -> list[Row]:
    kinds = {"function": ("main.py", FUNCTION), "fastapi": ("main.py", FASTAPI)}
    if find_toolchain() is not None:
        kinds["go"] = ("main.go", GO)
    everything = {f"{kind}{number}": page for number in range(pages) for kind, page in kinds.items()}
    project = site(root, ASLEEP, everything)
    with Server(project) as server:
        for page in everything:  # built, and what they import is learned
            until_shows(server.port, f"/{page}", b"HTTP/1.1 200")
    with Server(project) as server:
        until_shows(server.port, "/nothing", b" 404 ")
        time.sleep(REST_SECONDS)
        return [
            (f"tqserver, {kind} page", [timed(server.port, f"/{kind}{number}") for number in range(pages)])
            for kind in kinds
        ]


def by_hand(name: str, argv: Sequence[str | Path], root: Path, runs: int, port: int) -> Row:
    """Start a program, ask it until it answers, end it; several times."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        process = subprocess.Popen(argv, cwd=root, env={**os.environ, "PORT": str(port)})
        try:
            until_shows(port, "/", b"HTTP/1.1 200", poll_seconds=0.001)
            times.append((time.perf_counter() - begun) * 1000)
        finally:
            process.kill()
            process.wait()
    return name, times


def peers(root: Path, runs: int) -> list[Row]:
    root.mkdir()
    (root / "main.py").write_text(FASTAPI)
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "error"]
    rows = [by_hand("uvicorn, FastAPI", argv, root, runs, port)]
    if (toolchain := find_toolchain()) is not None:
        (root / "main.go").write_text(GO)
        subprocess.run([toolchain, "build", "-o", "program", "main.go"], cwd=root, check=True)
        rows.append(by_hand("the Go program", [root / "program"], root, runs, free_port()))
    return rows


def memory(root: Path) -> None:
    """Print what each of a pool's workers holds."""
    project = site(root, AWAKE, {"fastapi": ("main.py", FASTAPI)})
    with Server(project) as server:
        until_shows(server.port, "/fastapi", b"HTTP/1.1 200")
    with Server(project) as server:  # this time the zygote holds FastAPI before the first worker
        for _ in range(50 * POOL):
            until_shows(server.port, "/fastapi", b"HTTP/1.1 200")
        workers = [child for child in server.control.children(recursive=True) if "worker" in " ".join(child.cmdline())]
        held = [worker.memory_full_info() for worker in workers]
    if len(held) != POOL:
        raise SystemExit(f"{len(held)} workers instead of {POOL}")
    print(f"\nFastAPI page, {POOL} workers of one pool, MB each (median)")
    for name, values in {
        "resident": [one.rss for one in held],
        "PSS": [one.pss for one in held],
        "private": [one.uss for one in held],
    }.items():
        print(f"{name:28} {statistics.median(values) / 1e6:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=10)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp())
    try:
        rows = [*ours(directory / "site", options.pages), *peers(directory / "peers", options.pages)]
        print(f"{'no worker to an answer':28} {'p50 ms':>8} {'max ms':>8}   ({options.pages} starts each)")
        for name, times in rows:
            print(f"{name:28} {statistics.median(times):8.1f} {max(times):8.1f}")
        memory(directory / "pool")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
