"""Requests per second and CPU per request through our proxy and through nginx, to the same Go worker.

Both proxies and the worker are started here; the order alternates and medians are printed. Needs nginx and wrk.

    make bench-proxy             (ARGS="--rounds 5 --seconds 8" for more)
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.serving import free_port, until_shows

WORKER = """package main

import (
	"fmt"
	"net/http"

	"github.com/tqserver/tqserver/sdk/go/worker"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello, world") })
	panic(worker.NewRuntime().StartServer(nil))
}
"""
NGINX = """
{user} worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  upstream worker {{ server unix:{socket}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://worker; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }}
}}
"""
HEADERS = [f"X-Browser-{number}: {'value-' * 5}{number}" for number in range(14)] + [
    "Accept: text/html",
    "Accept-Language: en",
]


def wrk(port: int, seconds: int) -> float:
    argv = ["wrk", "-t1", "-c32", f"-d{seconds}s"]
    for header in HEADERS:
        argv += ["-H", header]
    printed = subprocess.run([*argv, f"http://127.0.0.1:{port}/go"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if found is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise SystemExit(printed)
    return float(found[1])


def cpu_seconds(pids: list[int]) -> float:
    return sum(t.user + t.system for t in (psutil.Process(pid).cpu_times() for pid in pids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: apt-get install {tool}")
    with tempfile.TemporaryDirectory() as directory:
        run(Path(directory), options.rounds, options.seconds)


def run(root: Path, rounds: int, seconds: int) -> None:
    (root / "pages" / "go").mkdir(parents=True)
    (root / "pages" / "go" / "main.go").write_text(WORKER)
    ports = {"tqserver": free_port(), "nginx": free_port()}
    environment = {**os.environ, "TQSERVER_SERVER__PORT": str(ports["tqserver"])}
    server = subprocess.Popen([sys.executable, "-m", "tqserver", "-quiet"], cwd=root, env=environment)
    nginx: subprocess.Popen[bytes] | None = None
    try:
        until_shows(ports["tqserver"], "/go", b"HTTP/1.1 200")
        socket = next((root / ".tqserver" / "run").glob("*/w*.sock"))
        (root / "nginx.conf").write_text(
            NGINX.format(
                # as root, its workers would be nobody, who may not open our socket
                user="user root;" if os.geteuid() == 0 else "",
                root=root,
                socket=socket,
                port=ports["nginx"],
            )
        )
        nginx = subprocess.Popen(["nginx", "-c", root / "nginx.conf", "-p", root])
        until_shows(ports["nginx"], "/go", b"HTTP/1.1 200")
        family = psutil.Process(server.pid).children(recursive=True)
        pids = {
            "tqserver": [child.pid for child in family if "proxy" in " ".join(child.cmdline())],
            "nginx": [nginx.pid, *(child.pid for child in psutil.Process(nginx.pid).children())],
        }
        report(measure(ports, pids, rounds, seconds))
    finally:
        if nginx is not None:
            nginx.send_signal(signal.SIGTERM)
            nginx.wait()
        server.terminate()
        server.wait()


def measure(
    ports: dict[str, int], pids: dict[str, list[int]], rounds: int, seconds: int
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            before, begun = cpu_seconds(pids[name]), time.perf_counter()
            rate = wrk(port, seconds)
            spent = cpu_seconds(pids[name]) - before
            found[name].append((rate, spent / (rate * (time.perf_counter() - begun)) * 1e6))
    return found


def report(found: dict[str, list[tuple[float, float]]]) -> None:
    medians = {
        name: (statistics.median(rate for rate, _ in rows), statistics.median(cpu for _, cpu in rows))
        for name, rows in found.items()
    }
    print(f"{'':10} {'req/s':>9} {'of nginx':>9} {'CPU us/req':>11}")
    for name, (rate, cpu) in medians.items():
        print(f"{name:10} {rate:9.0f} {rate / medians['nginx'][0]:9.2f} {cpu:11.1f}")


if __name__ == "__main__":
    main()
