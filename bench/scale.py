"""What a thousand pages cost: two servers of ours at once, one with 10 pages and one with 1,000, asked in turn.

No page has a worker before it is asked (``min_workers: 0``). The ratio of the two columns is the result; both
servers have the same moments of a noisy machine.

    make bench-scale             (ARGS="--pages 2000 --sample 50" for more)
"""

from __future__ import annotations

import argparse
import http.client
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.serving import Server, fetch, until_shows

FUNCTION = 'def get():\n    return "MARK"\n'
SETTINGS = "workers:\n  default:\n    min_workers: 0\n"
WARM_REQUESTS = 20  # of one page, one after another
PAUSE_SECONDS = 0.1  # between two saves


@dataclass(slots=True)
class Site:
    """A project with many pages, and what was measured of it; times in milliseconds."""

    project: Path
    pages: int
    first_start: float = 0.0
    next_start: float = 0.0
    memory: float = 0.0  # MB of control and proxies, shared pages by their share (PSS)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)

    def write(self) -> None:
        (self.project / "config").mkdir(parents=True)
        (self.project / "config" / "server.yaml").write_text(SETTINGS)
        for number in range(self.pages):
            self.entry(number).parent.mkdir(parents=True)
            self.entry(number).write_text(FUNCTION)

    def entry(self, number: int) -> Path:
        return self.project / "pages" / f"p{number}" / "main.py"


def start(site: Site) -> tuple[Server, float]:
    """Start a server; return it and the milliseconds until the last of its pages has answered."""
    begun = time.perf_counter()
    server = Server(site.project).__enter__()
    until_shows(server.port, f"/p{site.pages - 1}", b"HTTP/1.1 200", poll_seconds=0.005)
    return server, (time.perf_counter() - begun) * 1000


def wake(site: Site, server: Server, number: int) -> None:
    """The first request to a page starts its worker."""
    begun = time.perf_counter()
    if b" 200 " not in fetch(server.port, f"/p{number}")[:16]:
        raise SystemExit(f"/p{number} does not answer")
    site.cold.append((time.perf_counter() - begun) * 1000)


def ask(site: Site, server: Server, number: int) -> None:
    """Requests to one page that is awake, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for _ in range(WARM_REQUESTS):
        begun = time.perf_counter()
        connection.request("GET", f"/p{number}")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"/p{number} answered {response.status}")
        site.warm.append((time.perf_counter() - begun) * 1000)
    connection.close()


def save(site: Site, server: Server, number: int) -> None:
    """Edit a page that has a worker, and ask it until the edit answers."""
    mark = f"mark-{time.time_ns()}"
    begun = time.perf_counter()
    site.entry(number).write_text(FUNCTION.replace("MARK", mark))
    while mark.encode() not in fetch(server.port, f"/p{number}"):
        time.sleep(0.001)
    site.saves.append((time.perf_counter() - begun) * 1000)
    time.sleep(PAUSE_SECONDS)


def measure(sites: list[Site], sample: int) -> None:
    for site in sites:
        site.write()
        server, site.first_start = start(site)
        server.__exit__(None, None, None)
    servers: list[Server] = []
    try:
        for site in sites:
            server, site.next_start = start(site)
            servers.append(server)
        chosen = [random.Random(1).sample(range(site.pages - 1), min(sample, site.pages - 1)) for site in sites]
        for site, server, numbers in zip(sites, servers, chosen, strict=True):
            for number in numbers:
                wake(site, server, number)
        for turn in range(sample):
            for site, server, numbers in zip(sites, servers, chosen, strict=True):
                ask(site, server, numbers[turn % len(numbers)])
        for turn in range(sample):
            for site, server, numbers in zip(sites, servers, chosen, strict=True):
                save(site, server, numbers[turn % len(numbers)])
        for site, server in zip(sites, servers, strict=True):
            processes = [server.control, *server.proxies]
            site.memory = sum(process.memory_full_info().pss for process in processes) / 1e6
    finally:
        for server in servers:
            server.__exit__(None, None, None)


def report(small: Site, large: Site) -> None:
    rows = {
        "first start, to an answer, ms": (small.first_start, large.first_start),
        "next start, to an answer, ms": (small.next_start, large.next_start),
        "memory of control and proxies, MB": (small.memory, large.memory),
        "request to a page asleep, p50 ms": (statistics.median(small.cold), statistics.median(large.cold)),
        "request to a page awake, p50 ms": (statistics.median(small.warm), statistics.median(large.warm)),
        "save to live, p50 ms": (statistics.median(small.saves), statistics.median(large.saves)),
    }
    print(f"{'pages':36} {small.pages:>8} {large.pages:>8} {'ratio':>7}")
    for name, (one, many) in rows.items():
        print(f"{name:36} {one:8.1f} {many:8.1f} {many / one:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        small, large = Site(Path(directory, "small"), 10), Site(Path(directory, "large"), options.pages)
        measure([small, large], options.sample)
        report(small, large)


if __name__ == "__main__":
    main()
