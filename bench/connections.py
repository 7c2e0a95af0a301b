"""Memory of a connection that is kept alive and idle: of our proxy and of nginx, each with 5,000 of them.

Each connection asks once, with the fields of a browser, and is kept. What is printed is how much the resident
memory of the server's processes grew, over the number of connections. The kernel's buffers are not in it, nor what
nginx sets aside for all its connections as it starts. Needs nginx.

    make bench-connections       (ARGS="--connections 10000" for more)
"""

from __future__ import annotations

import argparse
import resource
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.proxy import HEADERS, Measured, start_all

REQUEST = "".join(line + "\r\n" for line in ("GET /go HTTP/1.1", "Host: localhost", *HEADERS, "")).encode()
WARM_UP = 200
SETTLE_SECONDS = 2.0


def resident_bytes(server: Measured) -> int:
    return sum(process.memory_info().rss for process in server.processes)


def connect(server: Measured) -> socket.socket:
    """Open a connection and ask once."""
    client = socket.create_connection(("127.0.0.1", server.port), 10)
    client.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"hello, world"):
        received = client.recv(65536)
        if not received:
            raise SystemExit(f"a connection was closed: {answer!r}")
        answer += received
    return client


def bytes_each(server: Measured, connections: int) -> float:
    """Return how many bytes one idle connection takes up."""
    for _ in range(WARM_UP):
        connect(server).close()
    time.sleep(SETTLE_SECONDS)
    before = resident_bytes(server)
    clients = [connect(server) for _ in range(connections)]
    time.sleep(SETTLE_SECONDS)
    grown = resident_bytes(server) - before
    for client in clients:
        client.close()
    return grown / connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=5000)
    options = parser.parse_args()
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is missing: apt-get install nginx")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        servers = start_all(stack, Path(directory))
        print(f"KiB of each of {options.connections} idle connections")
        for name in ("nginx", "tqserver"):
            print(f"{name:12} {bytes_each(servers[name], options.connections) / 1024:6.1f}")


if __name__ == "__main__":
    main()
