"""Every setting, declared once: type, default, limits, help.

The dataclasses are the configuration; :func:`describe` derives the documentation from them, ``settings.py`` the
parser and the environment variables.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SIZE = "size"  # bytes as a number, or a text such as "512MiB"
NETWORKS = "networks"  # a list of addresses or networks


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    form: str = "",
) -> Any:
    """Declare a setting. ``aliases`` are other spellings; ``form`` names a syntax beyond its type."""
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "aliases": aliases,
        "form": form,
    }
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``server``: the address that clients know, and what bounds their connections."""

    port: int = setting(8080, "Port to listen on; 0 takes any free one.", low=0, high=65535)
    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 is every one of this machine.")
    read_timeout_seconds: float = setting(30, "Silence of a client within a request: head or body.", low=0.1)
    write_timeout_seconds: float = setting(30, "How long a client may not read its response.", low=0.1)
    idle_timeout_seconds: float = setting(120, "How long a connection may wait for its next request.", low=0.1)
    log_file: str | None = setting(
        "logs/tqserver_{date}.log", "The server's log as JSON lines; {date} is YYYY-MM-DD. Empty: no file."
    )
    proxies: int | None = setting(None, "Proxy processes; unset is half the cores, at least 1.", low=1, high=64)
    max_body: int = setting(0, "Largest request body in bytes; 0 is unlimited.", low=0, form=SIZE)
    max_header_bytes: int = setting(65536, "Largest request head.", low=1024, high=1 << 20, form=SIZE)
    trusted_proxies: list[str] = setting(
        [], "Addresses or networks whose X-Forwarded-* fields are kept.", form=NETWORKS
    )

    def proxy_count(self) -> int:
        """Return how many proxies to run."""
        return self.proxies or max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``workers.default`` and ``workers.paths."/prefix"``: one page's workers."""

    min_workers: int = setting(1, "Workers that are kept running for each page.", low=1, high=1024)
    max_requests: int = setting(0, "Accepted for compatibility; recycling is not implemented yet.", low=0)
    read_timeout_seconds: float = setting(30, "Silence of a client while it sends a body.", low=0.1)
    write_timeout_seconds: float = setting(30, "Silence of a worker before and within its response.", low=0.1)
    idle_timeout_seconds: float = setting(120, "How long a worker keeps an idle connection.", low=0.1)
    gomaxprocs: int = setting(1, "GOMAXPROCS of a worker; 0 leaves it to Go.", low=0, aliases=("go_max_procs",))
    gomemlimit: str = setting("", "GOMEMLIMIT of a worker, e.g. 512MiB.", aliases=("go_mem_limit",))
    log_file: str | None = setting(
        "logs/tqworker_{path}_{date}.log",
        "Where a worker's output goes; {path} is the page with _ for /. Empty: nowhere.",
    )
    start_timeout_seconds: float = setting(30, "How long a worker may take to become ready.", low=0.1)
    drain_timeout_seconds: float | None = setting(
        None, "How long a replaced worker may finish requests; unset is 2 in dev, 30 in prod.", low=0
    )
    health_path: str = setting("/health", "Asked until a worker that does not say READY=1 answers.")
    env: Mapping[str, str] = setting({}, "Environment variables added for the worker.")

    def drain_seconds(self, mode: str) -> float:
        """Return the drain deadline in this mode."""
        if self.drain_timeout_seconds is not None:
            return self.drain_timeout_seconds
        return 30.0 if mode == "prod" else 2.0


@dataclass(frozen=True, slots=True)
class WorkersSettings:
    """``workers``: what all workers share."""

    port_range_start: int = setting(9000, "First port for workers.", low=1, high=65535)
    port_range_end: int = setting(9999, "Last port for workers.", low=1, high=65535)
    startup_delay_ms: int | None = setting(None, "Extra wait after a worker is ready; unset is none.", low=0)
    restart_delay_ms: int | None = setting(None, "Extra wait before the old worker is drained.", low=0)
    shutdown_grace_period_ms: int = setting(500, "From SIGTERM to SIGKILL, after the drain.", low=0)
    temp_dir: str | None = setting(
        None, "Where artifacts are kept; unset is .tqserver/ in the project.", aliases=("bin_dir",)
    )
    build_timeout_seconds: float = setting(120, "How long one build may take.", low=1)
    default: WorkerSettings = field(default_factory=WorkerSettings)
    paths: Mapping[str, WorkerSettings] = field(default_factory=dict)

    def for_route(self, route: str) -> WorkerSettings:
        """Return the settings of a route: exact, then the longest whole-segment prefix, then the default."""
        best = ""
        for prefix in self.paths:
            if prefix == route:
                return self.paths[prefix]
            stem = prefix.rstrip("/")
            if route.startswith(stem + "/") and len(prefix) > len(best):
                best = prefix
        return self.paths[best] if best else self.default


@dataclass(frozen=True, slots=True)
class FileWatcherSettings:
    """``file_watcher``."""

    debounce_ms: int = setting(
        50, "How long an unfinished change (being written, vanished) is waited for.", low=0, high=10000
    )


@dataclass(frozen=True, slots=True)
class PagesSettings:
    """``pages``."""

    directory: str = setting("pages", "The directory whose directories are pages.")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    mode: str = setting("dev", "dev shows errors to clients, prod does not.", choices=("dev", "prod"))
    server: ServerSettings = field(default_factory=ServerSettings)
    workers: WorkersSettings = field(default_factory=WorkersSettings)
    file_watcher: FileWatcherSettings = field(default_factory=FileWatcherSettings)
    pages: PagesSettings = field(default_factory=PagesSettings)


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as documentation shows it."""

    key: str
    type: str
    default: str
    help: str


def describe(section: type[Any] = Config, prefix: str = "") -> Iterator[Described]:
    """Yield every setting with its dotted key, in order of declaration."""
    for declared in dataclasses.fields(section):
        key = prefix + declared.name
        if declared.metadata:
            default = declared.default
            if default is dataclasses.MISSING:
                assert declared.default_factory is not dataclasses.MISSING
                default = declared.default_factory()
            shown = "unset" if default is None else str(default) if default != "" else '""'
            form = declared.metadata["form"] or str(declared.type)
            yield Described(key, form, shown, declared.metadata["help"])
        elif key != "workers.paths":
            assert declared.default_factory is not dataclasses.MISSING
            yield from describe(type(declared.default_factory()), key + ".")
