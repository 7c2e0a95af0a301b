"""What of the settings, and of what went wrong, the proxies are told. Pure."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable

from tqserver.control.plan import pooled_idle_seconds
from tqserver.model.config import Config, ServerSettings, WorkerSettings
from tqserver.model.errors import Defect, TQError
from tqserver.wire.messages import AccessLogged, Failure, RouteEntry, RouteLimits, ServerLimits, Snapshot


def as_failure(error: TQError) -> Failure:
    """Return an error as clients may be shown it."""
    where = str(error.location) if error.location is not None else ""
    return Failure(error.message, error.remedy, where, error.output)


def as_defect(error: Exception) -> Defect:
    """Return an exception that nobody foresaw as what a page failed with."""
    return Defect(
        f"a defect of tqserver: {error!r}",
        remedy="save again, or run tqserver reload; the traceback is in the server's log (tqserver events)",
        output="".join(traceback.format_exception(error)),
    )


def route_limits(settings: WorkerSettings, server: ServerSettings, *, may_grow: bool) -> RouteLimits:
    """Return what bounds the exchanges of a page; ``may_grow``: it can have another worker.

    Where several proxies share the load, each asks for more at its share of ``concurrency``.
    """
    return RouteLimits(
        read_timeout_seconds=settings.read_timeout_seconds or math.inf,  # 0 is no limit, as in the original
        write_timeout_seconds=settings.write_timeout_seconds or math.inf,
        start_timeout_seconds=settings.start_timeout_seconds,
        max_body=server.max_body,
        queue=settings.queue,
        concurrency=-(-settings.concurrency // server.proxy_count()) if may_grow else 0,
        worker_idle_seconds=pooled_idle_seconds(settings),
    )


def server_limits(server: ServerSettings) -> ServerLimits:
    """Return what bounds every connection."""
    return ServerLimits(
        read_timeout_seconds=server.read_timeout_seconds or math.inf,
        write_timeout_seconds=server.write_timeout_seconds or math.inf,
        idle_timeout_seconds=server.idle_timeout_seconds or math.inf,
        max_header_bytes=server.max_header_bytes,
        max_header_fields=server.max_header_fields,
        max_connections=server.max_connections,
        max_connections_per_client=server.max_connections_per_client,
        max_body=server.max_body,
    )


def snapshots(config: Config) -> Callable[[int, list[RouteEntry]], Snapshot]:
    """Return what makes a snapshot of a version and its rows, by this configuration."""
    server = config.server
    access_log = None
    if server.access_log != "off":
        access_log = AccessLogged(server.access_log, server.access_log_file or "", server.access_log_sample)
    return lambda version, rows: Snapshot(
        version,
        config.mode,
        rows,
        server_limits(server),
        list(server.trusted_proxies),
        server.host,
        access_log,
        server.tls.hsts if server.tls is not None else "",
    )
