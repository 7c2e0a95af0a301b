"""Save to live: from the write of a file to the first response by the new code, beside what people use today.

One run, one machine, nothing pinned: compare the rows with one another, not with other machines.

    make bench-reload            (ARGS="--runs 20" for more)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.serving import Server, fetch, free_port, until_shows
from tqserver.build.runtimes.go import find_toolchain

FUNCTION = 'def get():\n    return "MARK"\n'
FASTAPI = 'from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get("/")\ndef get() -> str:\n    return "MARK"\n'
GO = """package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "MARK") })
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
"""
PAUSE_SECONDS = 0.3  # between two saves, so that the last one has come to rest
LIMIT_SECONDS = 15.0
POLL_SECONDS = 0.001  # a tight loop would take a core from whoever builds


def measure(name: str, runs: int, save: Callable[[str], None], port: int, path: str) -> dict[str, object]:
    """Save ``runs`` times; count every answer in between that is no answer."""
    times, failed = [], 0
    until_shows(port, path, b"HTTP/1.1 200")
    for run in range(runs):
        time.sleep(PAUSE_SECONDS)
        mark = f"mark-{run}-{time.time_ns()}"
        begun = time.perf_counter()
        saving = threading.Thread(target=save, args=(mark,))  # all are watched alike, also while a script builds
        saving.start()
        while True:
            time.sleep(POLL_SECONDS)
            try:
                answer = fetch(port, path)
            except OSError:
                failed += 1
                continue
            if mark.encode() in answer:
                break
            failed += b" 200 " not in answer[:16]
            if time.perf_counter() - begun > LIMIT_SECONDS:
                raise SystemExit(f"{name}: the save did not become live: {answer[:500]!r}")
        times.append((time.perf_counter() - begun) * 1000)
        saving.join()
    ordered = sorted(times)
    return {
        "what": name,
        "p50_ms": round(statistics.median(times), 1),
        "p90_ms": round(ordered[int(len(ordered) * 0.9)], 1),
        "failed": failed,
        "runs": runs,
    }


def ours(root: Path, runs: int) -> list[dict[str, object]]:
    pages = {"function": ("main.py", FUNCTION), "fastapi": ("main.py", FASTAPI), "go": ("main.go", GO)}
    for page, (entry, text) in pages.items():
        (root / "pages" / page).mkdir(parents=True)
        (root / "pages" / page / entry).write_text(text)
    rows = []
    with Server(root) as server:
        for page, (entry, text) in pages.items():
            file = root / "pages" / page / entry

            def save(mark: str, file: Path = file, text: str = text) -> None:
                put(file, text, mark)

            until_shows(server.port, f"/{page}", b"HTTP/1.1 200")
            rows.append(measure(f"tqserver, {page} page", runs, save, server.port, f"/{page}"))
    return rows


def put(file: Path, text: str, mark: str) -> None:
    file.write_text(text.replace("MARK", mark))


def uvicorn(root: Path, runs: int) -> dict[str, object]:
    root.mkdir()
    (root / "main.py").write_text(FASTAPI)
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "main:app", "--reload", "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen(argv, cwd=root, start_new_session=True)
    try:
        until_shows(port, "/", b"HTTP/1.1 200")
        return measure("uvicorn --reload, FastAPI", runs, lambda mark: put(root / "main.py", FASTAPI, mark), port, "/")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def naive_go(root: Path, runs: int) -> dict[str, object] | None:
    """Build, kill, start: what a script would do."""
    toolchain = find_toolchain()
    if toolchain is None:
        return None
    root.mkdir()
    (root / "go.mod").write_text("module naive\n\ngo 1.21\n")
    port = free_port()
    running: list[subprocess.Popen[bytes]] = []

    def save(mark: str) -> None:
        put(root / "main.go", GO, mark)
        subprocess.run([toolchain, "build", "-o", "naive", "."], cwd=root, check=True)
        if running:
            running[-1].kill()
            running[-1].wait()
        running.append(subprocess.Popen([root / "naive"], env={**os.environ, "PORT": str(port)}))

    try:
        save("first")
        return measure("go build, kill, start", runs, save, port, "/")
    finally:
        running[-1].kill()
        running[-1].wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        rows = ours(root / "site", options.runs)
        rows.append(uvicorn(root / "uvicorn", options.runs))
        if (row := naive_go(root / "naive", options.runs)) is not None:
            rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'':28} {'p50 ms':>8} {'p90 ms':>8} {'failed':>7}   ({options.runs} saves each)")
    for row in rows:
        print(f"{row['what']:28} {row['p50_ms']:>8} {row['p90_ms']:>8} {row['failed']:>7}")


if __name__ == "__main__":
    main()
