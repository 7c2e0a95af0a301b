"""What is the case, as shown to people and programs: the values behind ``tqserver status`` and the admin API.

They are plain and whole, and travel as JSON. Members are only ever added within a version; None is what nothing is
known of, never a guess. Times of day are ISO 8601 with an offset, durations seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

VERSION = 1  # of the documents below; in the path of the admin API as well (/v1)


@dataclass(frozen=True, slots=True)
class FailureStatus:
    """Why a page is not, or not newly, served. ``at`` is when that was found."""

    message: str
    where: str = ""  # file:line:column
    remedy: str = ""
    output: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One process. ``memory_bytes`` is what is resident, pages shared with its zygote included."""

    number: int
    pid: int
    revision: int
    state: str
    endpoint: str
    memory_bytes: int
    uptime_seconds: float  # since it was ready
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class TrafficStatus:
    """What the proxies counted for a page since the server started; the rate is that of the last seconds.

    Half of the answers of the last minute took at most ``p50_seconds``, 99 of 100 ``p99_seconds``, each from the
    request's head to the end of the answer; None if there were none.
    """

    requests: int
    failures: int  # answered by a proxy itself with 5xx
    in_flight: int
    waiting: int  # for a worker
    requests_per_second: float
    p50_seconds: float | None = None
    p99_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PageStatus:
    """One page. ``state`` is a PageState; ``revision`` 0 and ``digest`` "" say that nothing of it is live."""

    name: str
    route: str
    runtime: str
    state: str
    revision: int = 0
    digest: str = ""
    workers: list[WorkerStatus] = field(default_factory=list)
    traffic: TrafficStatus | None = None
    restarts: int = 0  # of workers that died, since the server started
    last_exit: str = ""  # how the last of those ended
    last_reload_seconds: float | None = None  # from the read of the files to the acknowledgement by all proxies
    failure: FailureStatus | None = None
    rolled_back_to: int = 0  # the revision that was gone back to and serves in place of what is on disk


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """One proxy. ``snapshot`` is the version of the routing table that it routes by."""

    name: str
    pid: int
    memory_bytes: int
    uptime_seconds: float
    snapshot: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The server itself.

    ``watcher`` is how it learns of changes: "inotify" or, for ``polling_reason``, "polling"; ``missed_changes`` are
    those that inotify did not tell of. ``problems`` are the server's own, until they are mended: a configuration
    on disk that is not the one that runs, a pages directory that is not there.
    """

    pid: int
    version: str
    mode: str
    url: str
    project: str
    config_file: str
    started: str
    uptime_seconds: float
    memory_bytes: int
    watcher: str
    snapshot: int
    last_event: int
    polling_reason: str = ""
    missed_changes: int = 0
    problems: list[FailureStatus] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Status:
    """All of it at one moment; pages in the order of their names."""

    server: ServerStatus
    proxies: list[ProxyStatus]
    pages: list[PageStatus]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of what is on disk of one page: served as ``revision``, unless there is a failure.

    ``rollback`` is answered with what was brought back instead, which ``rolled_back_to`` names.
    """

    name: str
    route: str
    state: str
    revision: int
    digest: str
    failure: FailureStatus | None = None
    rolled_back_to: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The answer to ``wait``, ``reload`` and ``rollback``: one outcome for each page that was asked for."""

    pages: list[Outcome]
    seconds: float
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """One revision of a page that was live; ``at`` is since when, "" if that is not known.

    ``is_kept``: its artifact is there, so that it can be gone back to. ``brings_back`` is the revision that it
    repeats, 0 if it was on disk itself.
    """

    revision: int
    digest: str
    at: str
    is_live: bool
    is_kept: bool
    brings_back: int = 0


@dataclass(frozen=True, slots=True)
class PageRevisions:
    """The last revisions of one page, the newest first."""

    name: str
    route: str
    revisions: list[RevisionStatus]


@dataclass(frozen=True, slots=True)
class Revisions:
    """The answer to ``revisions``."""

    pages: list[PageRevisions]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """One row of the routing table: the route, the page that answers it, and the directory of that."""

    route: str
    page: str
    runtime: str
    directory: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page whose pattern was compared with a path; ``reason`` is why it answers or does not."""

    route: str
    page: str
    answers: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which page answers a URL, and why. ``page`` is "" if none does; best candidates first."""

    url: str
    path: str  # as it is matched: decoded, without dots and empty segments; "" if it is refused
    page: str = ""
    route: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Routes:
    """The answer to ``routes``: the table in the order of precedence, and one URL explained if asked."""

    routes: list[RouteStatus]
    problems: list[FailureStatus]
    explanation: Explanation | None = None
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``check`` or ``doctor``. ``level`` is "ok", "note" (works, with less) or "problem"."""

    level: str
    name: str
    found: str
    remedy: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All lines, in the order of the checks."""

    findings: list[Finding]
    version: int = VERSION

    @property
    def has_problem(self) -> bool:
        """Whether anything must be mended."""
        return any(finding.level == "problem" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class PageLog:
    """The end of one page's output. ``file`` is "" where the configuration keeps none."""

    page: str
    route: str
    file: str
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Logs:
    """The answer to ``logs``."""

    logs: list[PageLog]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request to the admin API was not carried out; ``exit_code`` is what the command line exits with."""

    message: str
    remedy: str = ""
    where: str = ""
    output: str = ""
    exit_code: int = 1
