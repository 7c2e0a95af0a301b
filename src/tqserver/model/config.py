"""Every setting, declared once: its type, default, form, help, and other spellings.

The parser, the environment variables and the table in ``docs/configuration.md`` derive from these classes; an
instance is a valid configuration, and immutable. None means unset: what is done then is said by the help and,
where it takes more than a look, by a method.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tqserver.model import kinds
from tqserver.model.kinds import Address, Kind, ListOf, MappingOf, Unset

DEV = "dev"
PROD = "prod"
REQUIRED: Any = dataclasses.MISSING


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a setting beside its name and its default."""

    kind: Kind | ListOf | MappingOf
    help: str
    aliases: tuple[str, ...] = ()


def setting(default: Any, kind: Kind | ListOf | MappingOf, help: str, *, aliases: tuple[str, ...] = ()) -> Any:
    """Declare a setting. ``aliases`` are other spellings of its name; :data:`REQUIRED` is no default."""
    metadata = {"setting": Setting(kind, help, aliases)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``server.tls``: serve HTTPS."""

    cert: str = setting(REQUIRED, kinds.Text(empty_allowed=False), "Certificate chain, a PEM file.")
    key: str = setting(REQUIRED, kinds.Text(empty_allowed=False), "Private key, a PEM file that is not encrypted.")
    redirect_port: int | None = setting(
        None, Unset(kinds.Number(1, 65535)), "Port on which plain HTTP is sent to https, by 308; unset is none."
    )
    hsts_seconds: int = setting(
        0, kinds.Number(0), "How long browsers shall insist on https (Strict-Transport-Security); 0 does not say so."
    )
    hsts_subdomains: bool = setting(False, kinds.Flag(), "Whether that holds for all hosts below this one.")

    @property
    def hsts(self) -> str:
        """The value of Strict-Transport-Security (RFC 6797 6.1), empty for none."""
        if not self.hsts_seconds:
            return ""
        return f"max-age={self.hsts_seconds}" + ("; includeSubDomains" if self.hsts_subdomains else "")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``server``: the address that clients know, and what bounds their connections."""

    port: int = setting(
        8080, kinds.Number(0, 65535), "Port to listen on, for HTTPS if server.tls is given; 0 is any free one."
    )
    host: str = setting(
        "127.0.0.1",
        kinds.Text(empty_allowed=False),
        "Address or host name to listen on; 0.0.0.0 is every address of this machine.",
    )
    read_timeout_seconds: float = setting(
        30, kinds.seconds(), "Silence of a client within a request, head or body; 0 is no limit."
    )
    write_timeout_seconds: float = setting(
        30, kinds.seconds(), "How long a client may take nothing of its response; 0 is no limit."
    )
    idle_timeout_seconds: float = setting(
        120, kinds.seconds(), "How long a connection may wait for its next request; 0 is no limit."
    )
    log_file: str | None = setting(
        "logs/tqserver_{date}.log",
        kinds.LogFile(("date",)),
        'Log of the server; {date} is YYYY-MM-DD. null, "" and "~" mean no file.',
    )
    access_log: str = setting(
        "off",
        kinds.Choice(("off", "text", "json")),
        "A line for each request: text is the Combined Log Format with more behind it.",
    )
    access_log_file: str | None = setting(
        "logs/access_{date}.log",
        kinds.LogFile(("date",)),
        'Where these lines go; {date} is YYYY-MM-DD. null, "" and "~" mean standard output.',
    )
    access_log_sample: float = setting(
        1, kinds.Number(0, 1, name="share", fractions=True), "Which share of the requests gets a line, 0 to 1."
    )
    proxies: int | None = setting(
        None, Unset(kinds.Number(1, 1024)), "Proxy processes; unset is half the cores, at least 1."
    )
    metrics: Address | None = setting(
        None,
        Unset(kinds.ListenAddress()),
        'Where /metrics is answered, beside the admin socket: a port, or "host:port"; unset is nowhere else.',
    )
    tls: TlsSettings | None = field(default=None, metadata={"section": TlsSettings})
    max_body: int = setting(0, kinds.Size(), "Largest request body; 0 is unlimited.")
    max_header_bytes: int = setting(65536, kinds.Size(1024, 2**24), "Largest request head, in all.")
    max_header_fields: int = setting(
        90, kinds.Number(1), "Fields of a request's head; Python pages take 100, with those that the proxy adds."
    )
    max_connections: int = setting(
        0,
        kinds.Number(0),
        "Client connections of a proxy; 0 is half of the files that it may have open, which is the most in any case.",
    )
    max_connections_per_client: int = setting(
        0, kinds.Number(0), "Connections of one client address to a proxy; those beyond are closed. 0 is no limit."
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), ListOf(kinds.Network()), "Addresses and networks of peers whose X-Forwarded-* fields are kept."
    )

    def proxy_count(self, cores: int | None = None) -> int:
        """Return how many proxies to run on this many cores (None: this machine's)."""
        if self.proxies is not None:
            return self.proxies
        return max(1, (cores or os.cpu_count() or 1) // 2)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``workers.default`` and ``workers.paths."/prefix"``: what the workers of a page get."""

    DRAIN_SECONDS: ClassVar[Mapping[str, float]] = {DEV: 2.0, PROD: 30.0}

    gomaxprocs: int = setting(
        1, kinds.Number(0), "GOMAXPROCS of a worker; 0 leaves it to Go.", aliases=("go_max_procs",)
    )
    gomemlimit: str = setting(
        "",
        kinds.GoMemory(),
        'GOMEMLIMIT of a worker, such as "512MiB"; empty is no limit.',
        aliases=("go_mem_limit",),
    )
    max_requests: int = setting(0, kinds.Number(0), "Requests after which a worker is replaced; 0 is never.")
    read_timeout_seconds: float = setting(
        30, kinds.seconds(), "Silence of a client while it sends a body to the page; 0 is no limit."
    )
    write_timeout_seconds: float = setting(
        30, kinds.seconds(), "Silence of a worker before and within its response; 0 is no limit."
    )
    idle_timeout_seconds: float = setting(
        120, kinds.seconds(), "How long a worker keeps an idle connection; 0 is no limit."
    )
    log_file: str | None = setting(
        "logs/tqworker_{path}_{date}.log",
        kinds.LogFile(("path", "date")),
        'Output of a worker; {path} is the page\'s name, {date} YYYY-MM-DD. null, "" and "~" mean no file.',
    )
    min_workers: int = setting(
        1, kinds.Number(0, 1024), "Workers that always run; 0 starts the first when a request comes."
    )
    max_workers: int = setting(
        1, kinds.Number(1, 1024), "Workers that run at most; where it is not given, at least min_workers."
    )
    concurrency: int = setting(
        0, kinds.Number(0), "Requests in flight per worker before another is started; 0 starts none for load."
    )
    queue: int = setting(
        1024, kinds.Number(0), "Requests that may wait in a proxy for a page's worker; those beyond get 503."
    )
    idle_stop_seconds: float = setting(
        0, kinds.seconds(), "How long a worker above min_workers must not have been needed to be stopped; 0 is never."
    )
    memory_limit: int = setting(0, kinds.Size(), 'Memory of a worker, such as "512MiB"; 0 or empty is no limit.')
    start_timeout_seconds: float = setting(
        30, kinds.seconds(0.1), "How long a worker may take to become ready, and a request may wait for it."
    )
    drain_timeout_seconds: float | None = setting(
        None,
        Unset(kinds.seconds()),
        "How long a worker that was replaced may finish its requests; unset is 2 in dev, 30 in prod.",
    )
    health_path: str = setting(
        "/health", kinds.Text(begins="/", name="path"), "What is asked to learn whether a worker is well."
    )
    health_interval_seconds: float = setting(
        30, kinds.seconds(), "Time between two such questions to a running worker; 0 asks none."
    )
    max_restarts: int = setting(
        10, kinds.Number(0), "Deaths within the restart period after which a page is given up; 0 is never."
    )
    restart_period_seconds: float = setting(300, kinds.seconds(1), "Time in which those deaths are counted.")
    env: Mapping[str, str] = setting(
        {},
        MappingOf(kinds.EnvName(), kinds.EnvValue()),
        "Environment variables of a worker, beside those that it gets.",
    )
    user: str = setting(
        "",
        kinds.User(),
        'User that workers run as, "name" or "name:group"; empty is the server\'s own. The server must be root.',
    )
    open_files: int = setting(
        0, kinds.Number(0, 2**30), "Files and connections that a worker may have open; 0 is as many as the server may."
    )

    def drain_seconds(self, mode: str) -> float:
        """Return how long a drain may take in this mode."""
        if self.drain_timeout_seconds is not None:
            return self.drain_timeout_seconds
        return self.DRAIN_SECONDS[mode]


@dataclass(frozen=True, slots=True)
class WorkersSettings:
    """``workers``: what all workers share, and the settings of each page's."""

    port_range_start: int = setting(9000, kinds.Number(1, 65535), "First port that a worker may be given.")
    port_range_end: int = setting(9999, kinds.Number(1, 65535), "Last port that a worker may be given.")
    startup_delay_ms: int | None = setting(
        None, Unset(kinds.milliseconds()), "Extra wait after a new worker is ready; unset is none."
    )
    restart_delay_ms: int | None = setting(
        None, Unset(kinds.milliseconds()), "Extra wait before an old worker is drained; unset is none."
    )
    shutdown_grace_period_ms: int = setting(500, kinds.milliseconds(), "From SIGTERM to SIGKILL, after the drain.")
    temp_dir: str | None = setting(
        None,
        Unset(kinds.Text(empty_allowed=False)),
        "Where builds are kept; unset is .tqserver/ in the project.",
        aliases=("bin_dir",),
    )
    build_timeout_seconds: float = setting(120, kinds.seconds(1), "How long one build may take.")
    default: WorkerSettings = field(default_factory=WorkerSettings)
    paths: Mapping[str, WorkerSettings] = field(default_factory=dict)

    def for_route(self, route: str) -> WorkerSettings:
        """Return the settings of a route: exact, then the longest whole-segment prefix, then the default.

        ``paths`` holds complete settings: of each key that a path does not name, the default's.
        """
        prefix = route
        while prefix not in self.paths:
            if prefix in ("", "/"):
                return self.default
            prefix = prefix.rpartition("/")[0] or "/"
        return self.paths[prefix]


@dataclass(frozen=True, slots=True)
class FileWatcherSettings:
    """``file_watcher``: when a change counts as finished."""

    debounce_ms: int = setting(50, kinds.milliseconds(), "How long a change that looks unfinished is waited for.")


@dataclass(frozen=True, slots=True)
class PagesSettings:
    """``pages``: where the pages are."""

    directory: str = setting("pages", kinds.Text(empty_allowed=False), "Directory of the pages, from the project's.")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; without arguments, the defaults."""

    mode: str = setting(
        DEV, kinds.Choice((DEV, PROD)), "dev shows a page's errors to clients; prod keeps them in the log."
    )
    server: ServerSettings = field(default_factory=ServerSettings)
    workers: WorkersSettings = field(default_factory=WorkersSettings)
    file_watcher: FileWatcherSettings = field(default_factory=FileWatcherSettings)
    pages: PagesSettings = field(default_factory=PagesSettings)


@dataclass(frozen=True, slots=True)
class Described:
    """A setting as documentation shows it."""

    key: str
    kind: str
    default: str
    help: str
    aliases: tuple[str, ...]


def section_of(member: dataclasses.Field[Any]) -> type[Any] | None:
    """Return the class of a member that groups settings, None for any other."""
    declared = member.metadata.get("section", member.default_factory)
    return declared if isinstance(declared, type) and dataclasses.is_dataclass(declared) else None


def describe(declared: type[Any] = Config, prefix: str = "") -> Iterator[Described]:
    """Yield every setting, by its dotted key, in the order of declaration.

    Those of ``workers.paths."/prefix"`` are those of ``workers.default`` and not yielded again.
    """
    for member in dataclasses.fields(declared):
        key = prefix + member.name
        section = section_of(member)
        if section is not None:
            yield from describe(section, key + ".")
        elif "setting" in member.metadata:
            known: Setting = member.metadata["setting"]
            yield Described(key, known.kind.name, _shown(member.default), known.help, known.aliases)


def _shown(default: Any) -> str:
    if default is None:
        return "unset"
    if default is dataclasses.MISSING or default == ():  # no default, or that of a list or mapping
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default) or '""'
