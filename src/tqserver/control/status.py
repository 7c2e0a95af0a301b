"""Observes a running server: its parts in, :mod:`tqserver.model.status` out. Changes nothing."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tqserver import __version__
from tqserver.control.discovery import Discovery, Problem
from tqserver.control.proxies import Proxy
from tqserver.control.running import Running
from tqserver.control.worker_process import WorkerProcess
from tqserver.host import clock
from tqserver.host.process import resident_bytes
from tqserver.model.errors import TQError
from tqserver.model.explain import by_precedence, explain
from tqserver.model.lifecycle import PageState
from tqserver.model.pages import route_of
from tqserver.model.status import (
    FailureStatus,
    Outcome,
    PageRevisions,
    PageStatus,
    ProxyStatus,
    Revisions,
    RevisionStatus,
    Routes,
    RouteStatus,
    ServerStatus,
    Status,
    TrafficStatus,
    WorkerStatus,
)
from tqserver.wire.messages import Failure


def observe(running: Running) -> Status:
    """Return the status of everything."""
    workers: Mapping[str, list[WorkerProcess]] = defaultdict(list)
    for worker in running.agent.list():
        workers[worker.order.spec.page].append(worker)
    names = {*running.site.reconcilers, *(problem.page for problem in running.site.found.problems)}
    return Status(
        server=_server(running),
        proxies=[_proxy(proxy) for proxy in running.proxies.alive],
        pages=[_page(running, name, workers.get(name, ())) for name in sorted(names)],
    )


def outcome(running: Running, name: str) -> Outcome:
    """Return what a page came to."""
    page = _page(running, name, ())
    failure = page.failure
    if failure is None and page.state != PageState.LIVE.value:
        failure = FailureStatus(f"it is {page.state}", remedy="the server's log says why: tqserver events")
    elif failure is None and page.rolled_back_to:
        failure = FailureStatus(
            f"it is rolled back to revision {page.rolled_back_to}: what is on disk is not served",
            remedy=f"edit it, or tqserver reload {page.route}",
        )
    return _outcome(page, failure)


def outcome_of_rollback(running: Running, name: str) -> Outcome:
    """Return what a page came to that was rolled back."""
    page = _page(running, name, ())
    return _outcome(page, page.failure)


def _outcome(page: PageStatus, failure: FailureStatus | None) -> Outcome:
    return Outcome(page.name, page.route, page.state, page.revision, page.digest, failure, page.rolled_back_to)


def revisions(running: Running, names: Iterable[str]) -> Revisions:
    """Return the last revisions of these pages."""
    return Revisions([PageRevisions(name, route_of(name), _revisions(running, name)) for name in names])


def _revisions(running: Running, name: str) -> list[RevisionStatus]:
    reconciler = running.site.reconcilers.get(name)
    live = reconciler.live.spec.revision if reconciler is not None and reconciler.live is not None else 0
    return [
        RevisionStatus(
            revision.number,
            revision.digest,
            clock.timestamp(revision.at) if revision.at else "",
            is_live=revision.number == live,
            is_kept=running.agent.has(revision.digest),
            brings_back=revision.brings_back,
        )
        for revision in reversed(running.journal.of(name).recent)
    ]


def routes(found: Discovery, url: str | None) -> Routes:
    """Return the routing table of what a scan found; explain a URL if one is given."""
    broken = {problem.page for problem in found.problems}
    pages = [page for page in by_precedence(found.pages.values()) if page.name not in broken]
    return Routes(
        [RouteStatus(page.route, page.name, page.runtime, page.directory) for page in pages],
        [failure_of(problem.error) for problem in found.problems],
        explain(url, pages) if url is not None else None,
    )


def failure_of(error: TQError, at: str = "") -> FailureStatus:
    """Return an error as status shows it."""
    return FailureStatus(error.message, str(error.location or ""), error.remedy, error.output, at)


def _server(running: Running) -> ServerStatus:
    now = clock.wall()
    return ServerStatus(
        pid=os.getpid(),
        version=__version__,
        mode=running.config.mode,
        url=running.url,
        project=str(running.project),
        config_file=str(running.config_file),
        started=clock.timestamp(running.started_at),
        uptime_seconds=now - running.started_at,
        memory_bytes=resident_bytes(os.getpid()),
        watcher="polling" if running.watcher.polling else "inotify",
        polling_reason=running.watcher.polling,
        missed_changes=running.watcher.missed,
        problems=list(running.events.problems.values()),
        snapshot=running.publisher.version,
        last_event=running.events.last,
    )


def _proxy(proxy: Proxy) -> ProxyStatus:
    pid = proxy.child.pid if proxy.child is not None else 0
    uptime = clock.monotonic() - proxy.started_at
    return ProxyStatus(proxy.name, pid, resident_bytes(pid), uptime, proxy.acknowledged)


def _page(running: Running, name: str, workers: Sequence[WorkerProcess]) -> PageStatus:
    reconciler = running.site.reconcilers.get(name)
    history = running.events.of_page(name)
    page = reconciler.page if reconciler is not None else running.site.found.pages.get(name)
    live = reconciler.live if reconciler is not None else None
    failure = _failure(running, name, history.failed_at)
    otherwise = PageState.BROKEN if failure is not None else PageState.GONE
    return PageStatus(
        name=name,
        route=route_of(name),
        runtime=page.runtime if page is not None else "",
        state=(reconciler.state if reconciler is not None else otherwise).value,
        revision=live.spec.revision if live is not None else 0,
        digest=live.spec.digest if live is not None else "",
        workers=[_worker(running, worker) for worker in sorted(workers, key=lambda worker: worker.number)],
        traffic=_traffic(running, name),
        restarts=history.restarts,
        last_exit=history.last_exit,
        last_reload_seconds=history.last_reload_seconds,
        failure=failure,
        rolled_back_to=reconciler.rolled_back_to if reconciler is not None else 0,
    )


def _traffic(running: Running, page: str) -> TrafficStatus | None:
    if not running.loads.has_heard:
        return None
    loads, now = running.loads, clock.monotonic()
    load = loads.page(page)
    return TrafficStatus(
        load.requests,
        load.failures,
        load.in_flight,
        load.waiting,
        loads.requests_per_second(page, now),
        loads.latency(page, 0.5, now),
        loads.latency(page, 0.99, now),
    )


def _worker(running: Running, worker: WorkerProcess) -> WorkerStatus:
    return WorkerStatus(
        number=worker.number,
        pid=worker.pid,
        revision=worker.order.spec.revision,
        state=worker.state.value,
        endpoint=worker.endpoint,
        memory_bytes=resident_bytes(worker.pid) if worker.pid else 0,
        uptime_seconds=worker.lived_seconds,
        in_flight=running.loads.worker(worker.number).in_flight if running.loads.has_heard else None,
    )


def _failure(running: Running, name: str, at: str) -> FailureStatus | None:
    """What discovery says of the page first: while that holds, nothing else is even tried."""
    problem: Problem | None = next((problem for problem in running.site.found.problems if problem.page == name), None)
    if problem is not None:
        return failure_of(problem.error, at)
    row = running.publisher.row(name)
    failure: Failure | None = row.failure if row is not None else None
    if failure is None:
        return None
    return FailureStatus(failure.message, failure.where, failure.remedy, failure.output, at)
