"""All that the programs say to one another.

::

    control -> proxy    Certificate, Snapshot, Cut, Leave
    proxy   -> control  Hello, Acknowledged, Drained, Demand, Refused, Counters
    control -> zygote   Fork            (with two descriptors: report socket, log pipe)
    child   -> control  Started, Ready, Loaded, Failed   (over its report socket)

Each direction is one union and one codec. Endpoints are ``unix:/path`` or ``tcp:host:port`` and opaque to all
but the proxy's connections. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from tqserver.wire.codec import Codec, Message, Value

# --- control -> proxy -------------------------------------------------------------------------------------


class WorkerRef(Value, frozen=True):
    """A worker that may be sent requests. ``worker`` is unique for the life of the server."""

    worker: int
    endpoint: str


class Failure(Value, frozen=True):
    """Why a page cannot be served, for the answer's body. ``output`` is shown in dev only."""

    message: str
    remedy: str = ""
    where: str = ""  # file:line:column
    output: str = ""


class RouteLimits(Value, frozen=True):
    """What bounds an exchange on one route; each bounds silence, not length."""

    read_timeout_seconds: float = 30.0  # silence of the client while it sends a body
    write_timeout_seconds: float = 30.0  # silence of the worker before and within its response, and of a
    # client that does not read
    start_timeout_seconds: float = 30.0  # how long a request waits for a first worker
    max_body: int = 0  # bytes; 0 is unlimited
    worker_idle_seconds: float = 60.0  # pooled connections to its workers; 0 is none are pooled
    queue: int = 1024  # requests that may wait for a worker, per proxy
    concurrency: int = 0  # requests in flight per worker, here, beyond which Demand is sent; 0 is never


class RouteEntry(Value, frozen=True):
    """One row of the routing table.

    ``workers`` empty and ``failure`` None: one is starting, requests wait. ``workers`` empty and a failure:
    503 with it. Workers and a failure: the last good revision serves while what is on disk is broken. ``public`` is
    the directory, absolute, of the files that are served without a worker; "" if the page has none.
    """

    pattern: str
    page: str
    revision: int
    workers: list[WorkerRef] = []
    failure: Failure | None = None
    limits: RouteLimits = RouteLimits()
    public: str = ""


class ServerLimits(Value, frozen=True):
    """What bounds every connection of a proxy."""

    read_timeout_seconds: float = 30.0  # to receive a whole head, and silence within a body
    write_timeout_seconds: float = 30.0
    idle_timeout_seconds: float = 120.0  # keep-alive connections between requests
    max_header_bytes: int = 65536
    max_header_fields: int = 90
    max_body: int = 0  # bytes; 0 is unlimited
    max_connections: int = 0  # of a proxy; 0 is what its descriptors bear
    max_connections_per_client: int = 0  # of an address, to a proxy; 0 is unlimited


ACCESS_TEXT, ACCESS_JSON = "text", "json"


class AccessLogged(Value, frozen=True):
    """How requests are logged: ``format`` is one of the two above, ``file`` a template, "" for standard output."""

    format: str
    file: str  # below the project, with {date}
    sample: float  # the share that gets a line


class Snapshot(Message, frozen=True):
    """The whole routing table. A proxy is a function of its latest snapshot."""

    version: int
    mode: str  # "dev" | "prod"
    routes: list[RouteEntry]
    limits: ServerLimits = ServerLimits()
    trusted_proxies: list[str] = []  # addresses and networks whose X-Forwarded-* are kept
    host: str = ""  # server.host: where a name, whoever asks for it may see failures in dev, as for localhost
    access_log: AccessLogged | None = None
    hsts: str = ""  # Strict-Transport-Security of what is answered over TLS


class Certificate(Message, frozen=True):
    """What a proxy that speaks TLS shows to those who connect from now on: a chain and its private key, both PEM.

    Sent before the first snapshot, and when it was renewed: its bytes, so that all proxies have one pair that was
    proved, whatever becomes of the files. It is never shown.
    """

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        """Keep the key out of every log."""
        return "Certificate(...)"


class Cut(Message, frozen=True):
    """The drain deadline of a worker has passed: end what is still in flight for it, politely."""

    worker: int


class Ping(Message, frozen=True):
    """Answer with :class:`Pong`: are you there?"""


class Leave(Message, frozen=True):
    """Accept what the kernel has queued, finish what is in flight within the deadline, then exit 0.

    ``patient``: somebody else serves this address from now on. Connections between two requests may ask once
    more until the deadline, and learn by the answer that it was the last: closed at once, they could lose a
    request that is on its way.
    """

    deadline_seconds: float
    patient: bool = False


# --- proxy -> control -------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First message of a proxy: it can take a snapshot."""

    pid: int


class Acknowledged(Message, frozen=True):
    """From now on every new request is routed by this version (or a later one)."""

    version: int


class Pong(Message, frozen=True):
    """The answer to :class:`Ping`. A proxy owes one answer to each snapshot and each ping, in order."""


class Drained(Message, frozen=True):
    """A worker that is no longer in the snapshot has no request in flight here."""

    worker: int


class Demand(Message, frozen=True):
    """A request waits for a page that has no worker, or all its workers have ``concurrency`` in flight here.

    Not said for each request: of those that wait, once until none waits; of workers that have enough, once for
    each snapshot.
    """

    page: str


class Refused(Message, frozen=True):
    """A worker refused a connection or closed it before it answered: control should look at it."""

    worker: int
    reason: str


class RouteCount(Value, frozen=True):
    """What one page has now, ``in_flight`` and ``waiting``; all else is what came since the proxy last counted.

    Each request that was answered is in ``codes``, by the first digit of its status (0: the client left before there
    was one), in ``durations``, by bucket of :data:`tqserver.model.latency.BOUNDS`, and in the sum of ``seconds``. The
    lists are empty if there was none.
    """

    page: str  # "": the requests that no page answered
    requests: int  # that began
    failures: int  # answered by the proxy itself with 5xx
    in_flight: int
    waiting: int
    cut: int = 0  # answers that were cut short
    codes: list[int] = []
    durations: list[int] = []
    seconds: float = 0.0


class WorkerCount(Value, frozen=True):
    """Counts of one worker since the proxy started. ``silent``: requests in a row that it did not answer in time."""

    worker: int
    requests: int
    in_flight: int
    silent: int


class Counters(Message, frozen=True):
    """Sent about once a second when something changed.

    ``routes`` are the pages that had anything since the last time, or have something in flight.
    """

    connections: int
    routes: list[RouteCount]
    workers: list[WorkerCount] = []


# --- control -> zygote ------------------------------------------------------------------------------------


class Identity(Value, frozen=True):
    """Whom a process belongs to. ``name`` and ``home`` are what it is told; ``groups`` are the supplementary ones."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str


class Limits(Value, frozen=True):
    """What a process takes on before it runs a page. ``open_files`` 0, ``cgroup`` "" and no identity: as its parent."""

    open_files: int = 0
    cgroup: str = ""  # absolute; the directory of the cgroup that it enters
    identity: Identity | None = None


class PageSpec(Value, frozen=True):
    """All that a forked Python worker needs to serve one revision of one page."""

    worker: int
    page: str
    route: str
    revision: int
    project: str  # absolute; becomes the working directory
    directory: str  # absolute; the page's directory: __file__, tracebacks and sys.path say this
    entry: str  # relative to directory
    artifact: str  # absolute; the directory that holds the revision's files, read instead of directory
    socket: str  # where to listen (TQ_SOCKET)
    mode: str
    environment: dict[str, str]  # added to the zygote's own
    shutdown_grace_seconds: float = 0.5
    limits: Limits = Limits()


class Preload(Value, frozen=True):
    """What a zygote of its own shall import, in this order, leaving out what started threads before."""

    zygote: int
    modules: list[str]
    leave_out: list[str] = []


class Fork(Message, frozen=True):
    """Fork a worker (``page``) or a zygote below this one (``preload``).

    Two descriptors travel with it: the child's report socket and the write end of its log pipe; a zygote
    gets a third, its own control socket.
    """

    page: PageSpec | None = None
    preload: Preload | None = None


# --- child -> control -------------------------------------------------------------------------------------


class Started(Message, frozen=True):
    """First message of a child: it is a child of control by now, and this is its pid."""

    pid: int


class Ready(Message, frozen=True):
    """A worker listens and its page is loaded; a zygote has imported what it could.

    ``modules`` are what was imported from outside the project, in order of import; ``files`` the project's
    files outside the page's directory that were read; ``left_out`` the modules that started threads.
    """

    modules: list[str] = []
    files: list[str] = []
    left_out: list[str] = []


class Loaded(Message, frozen=True):
    """More project files outside the page's directory that a worker has read since (imports, templates)."""

    files: list[str]


class Failed(Message, frozen=True):
    """The page could not be loaded; the child exits after this. As the first message: there is no child.

    The zygote says the latter, on the report socket of the child that it could not fork.
    """

    message: str
    file: str = ""
    line: int = 0
    output: str = ""  # the traceback
    remedy: str = ""
    may_pass: bool = True  # without a change of the page's files


ToProxy = Snapshot | Certificate | Cut | Ping | Leave
FromProxy = Hello | Acknowledged | Pong | Drained | Demand | Refused | Counters
ToZygote = Fork
FromChild = Started | Ready | Loaded | Failed

to_proxy: Codec[ToProxy] = Codec(ToProxy)
from_proxy: Codec[FromProxy] = Codec(FromProxy)
to_zygote: Codec[ToZygote] = Codec(ToZygote)
from_child: Codec[FromChild] = Codec(FromChild)
