"""Processes killed one after another under load: nobody who asks again may notice."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections import Counter

import psutil

from tests.system import client, sources
from tests.system.harness import Server, wait_until

INTERVAL_SECONDS = 0.2
KILLS = int(os.environ.get("STORM_KILLS", "40"))  # `make soak` has more
WORKERS = 8
CLIENTS = 4
PROXY_EVERY = 5  # kills, of which one is a proxy's


class Clients:
    """Repeatable requests without a pause, kept alive and fresh. ``answers`` counts bodies, or what went wrong."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.broken: list[tuple[float, float, str]] = []  # a connection ended without an answer: last well, ended
        self._threads = [threading.Thread(target=self._ask, args=(kept,)) for kept in (True, False) * (CLIENTS // 2)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(client.TIMEOUT_SECONDS)

    def _ask(self, kept: bool) -> None:
        while not self._stop.is_set():
            well = time.monotonic()
            connection = client.Connection(self._server.port)  # a refused one ends this thread, and fails the test
            with connection:
                while connection.is_open and not self._stop.is_set():
                    begun = time.monotonic()
                    if not self._once(connection, well) or not kept:
                        break
                    well = begun

    def _once(self, connection: client.Connection, well: float) -> bool:
        """Ask; ``well`` is a moment after which the connection was seen to work, or was made."""
        try:
            answer = connection.request(self._path)
        except (OSError, http.client.HTTPException) as error:
            self.broken.append((well, time.monotonic(), repr(error)))
            return False
        self.answers[answer.text if answer.status == 200 else f"{answer.status} {answer.text}"] += 1
        return True

    @property
    def are_all_asking(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)


def test_workers_and_proxies_killed_one_after_another(server: Server) -> None:
    """Only what was in flight in a killed proxy is lost; a worker's death costs nothing."""
    server.expect_errors("worker.exited", "proxy.exited", "worker.not_replaced")
    server.configure(
        f"server:\n  port: {server.port}\n  log_file: logs/server.log\n  proxies: 2\nworkers:\n  default:\n"
        f"    min_workers: {WORKERS}\n    max_workers: {WORKERS}\n    max_restarts: 0\n"
    )
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    killed: list[tuple[float, float]] = []  # between which moments a proxy was
    with Clients(server, "/page") as clients:
        for number in range(KILLS):
            before = time.monotonic()
            kill_oldest(server, "worker" if number % PROXY_EVERY else "proxy")
            if not number % PROXY_EVERY:
                killed.append((before, time.monotonic()))
            time.sleep(INTERVAL_SECONDS)  # the storm's own rhythm; nothing is waited for
        assert clients.are_all_asking
    assert set(clients.answers) == {"v0"}, clients.answers
    lost_otherwise = [
        problem
        for well, ended, problem in clients.broken
        if not any(well <= after and before <= ended for before, after in killed)
    ]
    assert not lost_otherwise
    assert len(clients.broken) <= len(killed) * CLIENTS
    wait_until(lambda: alive(server, "worker") == WORKERS, server.tail)
    wait_until(lambda: alive(server, "proxy") == 2, server.tail)


def running(server: Server, kind: str) -> list[int]:
    """The pids of workers or proxies that were seen ready and have not exited, the oldest first."""
    born = "worker.ready" if kind == "worker" else "proxy.started"
    ended = {event["pid"] for event in server.events(f"{kind}.exited")}
    return [event["pid"] for event in server.events(born) if event["pid"] not in ended]


def alive(server: Server, kind: str) -> int:
    return len(running(server, kind))


def kill_oldest(server: Server, kind: str) -> None:
    """Kill one, and return when it runs no more: until then it may still take connections."""
    for pid in running(server, kind)[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
            wait_until(lambda: has_ended(pid), f"the end of {pid}")  # noqa: B023


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
