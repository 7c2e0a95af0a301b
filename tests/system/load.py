"""Requests without a pause, each of them recorded and judged.

A failure is anything but a whole 200 by the old or new code: a refused or reset connection, another status,
a short or mixed body. Once every proxy has acknowledged the new code and it was seen, no request that begins
after that may be answered by the old.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.system import client
from tests.system.sources import CHUNK_BYTES, CHUNKS

PACE_SECONDS = 0.004  # between requests of one client, so that the load leaves the server some of two cores
POSTED = b"posted " * 2000
_VERSION = re.compile(rb"v(\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request."""

    kind: str
    begun: float
    ended: float
    version: int
    problem: str = ""


class Load:
    """Clients on a page of ``sources.functions``, ``fastapi`` or ``go``, whose versions are v0, v1, ..."""

    def __init__(self, port: int, path: str, *, downloads: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._path = path
        self._stop = threading.Event()
        self._outcomes: list[Outcome] = []
        self._switches: list[tuple[float, int]] = []
        loops: list[tuple[str, Callable[[], None]]] = [
            ("GET keep-alive 1", self._kept_alive),
            ("GET keep-alive 2", self._kept_alive),
            ("GET fresh", self._fresh),
            ("POST keep-alive", self._posts),
            ("POST fresh", self._fresh_posts),
        ]
        if downloads:
            loops.append(("download", self._downloads))
        self._threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(client.TIMEOUT_SECONDS + 10)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def __len__(self) -> int:
        """How many requests were made."""
        return len(self._outcomes)

    def switched(self, version: int) -> None:
        """From now on every new request must be answered by this version or a later one."""
        self._switches.append((time.monotonic(), version))

    def assert_no_failure(self) -> None:
        """Judge all that was recorded."""
        problems = Counter(f"{o.kind}: {o.problem}" for o in self._outcomes if o.problem)
        assert not problems, problems.most_common(20)
        kinds = Counter(outcome.kind for outcome in self._outcomes)
        silent = {thread.name for thread in self._threads} - set(kinds)
        assert not silent, f"no request was made by {silent}"
        stale = [o for o in self._outcomes if o.version < self._floor(o.begun)]
        assert not stale, stale[:10]

    def _floor(self, moment: float) -> int:
        return max((version for at, version in self._switches if at <= moment), default=0)

    # --- clients ------------------------------------------------------------------------------------------

    def _kept_alive(self) -> None:
        self._on_one_connection(lambda connection: self._get(connection))

    def _posts(self) -> None:
        self._on_one_connection(lambda connection: self._post(connection))

    def _on_one_connection(self, act: Callable[[client.Connection], None]) -> None:
        with contextlib.ExitStack() as stack:
            connection: client.Connection | None = None
            while not self._stop.is_set():
                if connection is None or not connection.is_open:
                    connection = self._connect()
                    if connection is not None:
                        stack.callback(connection.close)
                if connection is not None:
                    act(connection)
                time.sleep(PACE_SECONDS)

    def _fresh(self) -> None:
        self._on_fresh_connections(self._get)

    def _fresh_posts(self) -> None:
        self._on_fresh_connections(self._post)

    def _downloads(self) -> None:
        self._on_fresh_connections(self._download)

    def _on_fresh_connections(self, act: Callable[[client.Connection], None]) -> None:
        while not self._stop.is_set():
            connection = self._connect()
            if connection is not None:
                with connection:
                    act(connection)
            time.sleep(PACE_SECONDS)

    def _connect(self) -> client.Connection | None:
        begun = time.monotonic()
        try:
            return client.Connection(self._port, tls=self._tls)
        except OSError as error:
            self._record(begun, -1, f"connect: {error!r}")
            return None

    # --- requests -----------------------------------------------------------------------------------------

    def _get(self, connection: client.Connection) -> None:
        self._ask(connection, self._path, "GET", None, lambda version: version)

    def _post(self, connection: client.Connection) -> None:
        self._ask(connection, self._path, "POST", POSTED, lambda version: version + b" " + POSTED)

    def _download(self, connection: client.Connection) -> None:
        dots = b"." * (CHUNKS * CHUNK_BYTES)
        self._ask(connection, self._path.rstrip("/") + "/download", "GET", None, lambda version: version + dots)

    def _ask(
        self,
        connection: client.Connection,
        path: str,
        method: str,
        body: bytes | None,
        whole: Callable[[bytes], bytes],
    ) -> None:
        begun = time.monotonic()
        try:
            answer = connection.request(path, method, body)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._record(begun, -1, repr(error)[:200])
            return
        found = _VERSION.match(answer.body)
        if answer.status != 200 or found is None:
            self._record(begun, -1, f"{answer.status} {answer.body[:200]!r}")
        elif answer.body != whole(found[0]):
            self._record(begun, -1, f"not the whole of one version: {answer.body[:80]!r}, {len(answer.body)} bytes")
        else:
            self._record(begun, int(found[1]))

    def _record(self, begun: float, version: int, problem: str = "") -> None:
        kind = threading.current_thread().name
        self._outcomes.append(Outcome(kind, begun, time.monotonic(), version, problem))
