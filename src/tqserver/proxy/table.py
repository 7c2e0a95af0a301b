"""The routing table, in two kinds of objects: what was asked, and what is the case.

A :class:`Route` is a row of the latest snapshot and goes with it. A :class:`Worker` and a :class:`Page` are
what this proxy knows of them, and outlive snapshots: requests in flight, idle connections, requests that
wait.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from tqserver.model.config import DEV, PROD
from tqserver.model.latency import BOUNDS, BUCKETS
from tqserver.model.routing import Pattern, RouteTable, normalise
from tqserver.proxy.forwarding import networks
from tqserver.proxy.public import PublicDirectory
from tqserver.wire import headers
from tqserver.wire.http1 import BadMessage, RequestHead
from tqserver.wire.messages import RouteEntry, Snapshot, WorkerRef

if TYPE_CHECKING:
    from tqserver.proxy.relay import Relay
    from tqserver.proxy.upstream import Upstream

CACHED_PATHS = 4096
STATUS_CLASSES = 6  # the first digit of a status; 0 is none: the client left before there was an answer


class Worker:
    """A worker as it is. ``active`` are those whose requests it has, those still connecting included.
    ``idle_seconds`` is how long a connection to it may be idle.

    ``has_left``: no snapshot names it any more. ``is_resting``: it refused a connection a moment ago.
    ``requests`` were sent to it; ``silent`` in a row were not answered in time.
    """

    __slots__ = (
        "active", "endpoint", "has_left", "idle", "idle_seconds", "is_resting", "number", "requests", "silent",
    )  # fmt: skip

    def __init__(self, ref: WorkerRef) -> None:
        self.number = ref.worker
        self.endpoint = ref.endpoint
        self.active: set[Relay] = set()
        self.idle: list[Upstream] = []  # the latest last: it is used first, so that the others can age
        self.idle_seconds = 0.0
        self.has_left = False
        self.requests = 0
        self.silent = 0
        self.is_resting = False

    @property
    def in_flight(self) -> int:
        """Requests that it has not answered."""
        return len(self.active)


class Page:
    """A page as it is. ``waiting`` are the requests held until it has a worker, the first first.

    What is counted is what came since control was last told: ``requests`` that began, ``failures`` that were
    answered here with 5xx, answers that were ``cut`` short, and by :meth:`answered` what ended.
    """

    __slots__ = (
        "codes", "cut", "demanded", "durations", "failures", "in_flight", "name", "requests", "seconds", "turn",
        "waiting",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: dict[Relay, None] = {}
        self.demanded = False  # control has been told of these that wait
        self.turn = 0
        self.requests = 0
        self.failures = 0
        self.cut = 0
        self.codes = [0] * STATUS_CLASSES
        self.durations = [0] * BUCKETS
        self.seconds = 0.0
        self.in_flight = 0

    def answered(self, status: int, seconds: float) -> None:
        """Count a request with the status it was answered with, 0 for none, and how long that took."""
        self.codes[status // 100] += 1
        self.durations[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Route:
    """A row of the snapshot, with the state of what it names.

    ``failure_beside`` is what browsers are shown beside the last good revision's answers: in dev only.
    ``asked_for_more``: its workers have as much as they should, and control was told.
    """

    __slots__ = ("asked_for_more", "entry", "failure_beside", "limits", "page", "public", "workers")

    def __init__(self, entry: RouteEntry, page: Page, workers: list[Worker], mode: str) -> None:
        self.entry = entry
        self.limits = entry.limits
        self.asked_for_more = False
        self.page = page
        self.public = PublicDirectory(entry.public, entry.pattern) if entry.public else None
        self.workers = workers
        self.failure_beside = entry.failure if workers and mode == DEV else None


class Table:
    """The latest snapshot. :meth:`apply` replaces all of it between two requests.

    ``nobody`` counts the requests that no page answers.
    """

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.pages: dict[str, Page] = {}
        self._patterns: list[tuple[str, str]] = []  # and the pages that they lead to
        self._matcher: RouteTable[str] = RouteTable(())
        self.nobody = Page("")
        self._take(Snapshot(version=0, mode=PROD, routes=[]))

    def _take(self, snapshot: Snapshot) -> None:
        self.version = snapshot.version
        self.mode = snapshot.mode
        self.limits = snapshot.limits
        self.trusted = networks(snapshot.trusted_proxies)
        self._own_name = snapshot.host.lower().encode()
        self.tls_fields = b"\r\nStrict-Transport-Security: " + snapshot.hsts.encode() if snapshot.hsts else b""
        self._routes = {entry.page: self._route(entry) for entry in snapshot.routes}
        self._cached: dict[bytes, Route] = {}
        # A reload changes who answers, not what is answered: most of the work of a large table is its patterns.
        patterns = [(entry.pattern, entry.page) for entry in snapshot.routes]
        if patterns != self._patterns:
            self._matcher = RouteTable([(Pattern.parse(pattern), page) for pattern, page in patterns])
            self._patterns = patterns

    def _route(self, entry: RouteEntry) -> Route:
        page = self.pages.get(entry.page) or self.pages.setdefault(entry.page, Page(entry.page))
        workers = [
            self.workers.get(ref.worker) or self.workers.setdefault(ref.worker, Worker(ref)) for ref in entry.workers
        ]
        for worker in workers:
            worker.idle_seconds = entry.limits.worker_idle_seconds
        return Route(entry, page, workers, self.mode)

    def apply(self, snapshot: Snapshot) -> list[Worker]:
        """Route by ``snapshot`` from now on; return the workers that it no longer names."""
        self._take(snapshot)
        named = {ref.worker for entry in snapshot.routes for ref in entry.workers}
        left = [worker for number, worker in self.workers.items() if number not in named]
        for worker in left:
            worker.has_left = True
        for name in [name for name in self.pages if name not in self._routes]:
            if not self.pages[name].in_flight:
                del self.pages[name]
        return left

    def confides_in(self, request: RequestHead | None) -> bool:
        """Tell whether the client may see why a page fails: in dev, unless a foreign site's name led it here."""
        if self.mode != DEV:
            return False
        return request is None or headers.means_this_machine(request.host or b"", self._own_name)

    def forget(self, worker: Worker) -> bool:
        """A worker that left has nothing in flight any more; tell whether that is news."""
        return self.workers.pop(worker.number, None) is not None

    def find(self, path: bytes) -> Route | None:
        """Return the route that answers a raw path. Raises :class:`BadMessage` for a malformed one."""
        route = self._cached.get(path)
        return route if route is not None else self._match(path)

    def _match(self, path: bytes) -> Route | None:
        if not path.startswith(b"/"):
            return None  # OPTIONS *: the server as a whole is nobody's page
        normal = normalise(path.decode("latin-1"))
        if normal is None:
            raise BadMessage("the path is malformed")
        found = self._matcher.match(normal)
        if found is None:
            return None
        if len(self._cached) >= CACHED_PATHS:
            self._cached.clear()
        route = self._cached[path] = self._routes[found.value]
        return route
