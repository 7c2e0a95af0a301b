"""``tqserver status``: what runs, as a table."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import click

from tqserver.cli.client import Client
from tqserver.cli.failures import lines_of
from tqserver.cli.output import BAD, CAUTION, DIM, GOOD, STRONG, Cell, Column, Output, duration, megabytes
from tqserver.cli.session import Session, config_option, json_option, pass_session
from tqserver.model.status import PageStatus, Status

WATCH_SECONDS = 1.0
STATES = {"live": GOOD, "updating": CAUTION, "building": CAUTION, "stale": BAD, "broken": BAD, "failed": BAD}


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing it, every second, until interrupted.")
@config_option
@json_option
@pass_session
def command(session: Session, watch: bool) -> None:
    """Show what runs.

    The pages, their workers, and what is wrong.
    """
    client, output = Client(session.root), session.output
    if not watch:
        _print(output, client.get("/v1/status", Status))
        return
    try:
        _watch(client, output)
    except KeyboardInterrupt:
        return


def _watch(client: Client, output: Output) -> None:
    pause = threading.Event()
    if output.as_json or not output.is_terminal:
        while True:
            _print(output, client.get("/v1/status", Status))
            pause.wait(WATCH_SECONDS)
    from rich.console import Group  # only terminals pay for it
    from rich.text import Text

    with output.screen() as live:
        while True:
            status = client.get("/v1/status", Status)
            table = output.rendered(*table_of(status))
            below = [Text.assemble(*((cell.text, cell.style) for cell in line)) for line in troubles(status)]
            live.update(Group(Text(headline(status)), table, *below), refresh=True)
            pause.wait(WATCH_SECONDS)


def _print(output: Output, status: Status) -> None:
    if output.as_json:
        output.document(status)
        return
    output.line(Cell(headline(status), STRONG))
    if status.pages:
        output.table(*table_of(status))
    for line in troubles(status):
        output.line(*line)


def headline(status: Status) -> str:
    """Return the server in one line."""
    server = status.server
    proxies = "1 proxy" if len(status.proxies) == 1 else f"{len(status.proxies)} proxies"
    polls = ", polls for changes" if server.watcher == "polling" else ""
    return (
        f"{server.url}  {server.mode}  up {duration(server.uptime_seconds)}  "
        f"pid {server.pid}, {proxies}{polls}  {megabytes(server.memory_bytes)}"
    )


def table_of(status: Status) -> tuple[list[Column], list[list[Cell]]]:
    """Return the pages as a table. What no proxy has counted yet has no columns."""
    columns = [
        Column("ROUTE"),
        Column("STATE"),
        Column("REV", right=True, drop=2),
        Column("WORKERS", right=True, drop=1),
    ]
    counted = any(page.traffic is not None for page in status.pages)
    if counted:
        columns += [
            Column("REQUESTS", right=True, drop=7),
            Column("REQ/S", right=True, drop=4),
            Column("P50", right=True, drop=10),
            Column("P99", right=True, drop=5),
            Column("IN FLIGHT", right=True, drop=6),
            Column("WAITING", right=True, drop=8),
        ]
    columns += [
        Column("MEMORY", right=True, drop=3),
        Column("RESTARTS", right=True, drop=9),
        Column("RELOAD", right=True, drop=11),
        Column("RUNTIME", drop=12),
    ]
    pages = sorted(status.pages, key=lambda page: page.route)
    return columns, [_row(page, counted=counted) for page in pages]


def _row(page: PageStatus, *, counted: bool) -> list[Cell]:
    ready = sum(worker.state == "ready" for worker in page.workers)
    workers = str(ready) if ready == len(page.workers) else f"{ready} of {len(page.workers)}"
    row = [
        Cell(page.route, STRONG),
        Cell(page.state, STATES.get(page.state, "")),
        Cell(str(page.revision or "")),
        Cell(workers),
    ]
    if counted:
        row += _traffic(page)
    memory = sum(worker.memory_bytes for worker in page.workers)
    return [
        *row,
        Cell(megabytes(memory) if memory else ""),
        Cell(str(page.restarts or ""), CAUTION),
        _time(page.last_reload_seconds),
        Cell(page.runtime, DIM),
    ]


def _traffic(page: PageStatus) -> list[Cell]:
    counts = page.traffic
    if counts is None:
        return [Cell("")] * 6
    rate = counts.requests_per_second
    return [
        Cell(str(counts.requests)),
        Cell(f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"),
        _time(counts.p50_seconds),
        _time(counts.p99_seconds),
        Cell(str(counts.in_flight)),
        Cell(str(counts.waiting), CAUTION if counts.waiting else ""),
    ]


def _time(seconds: float | None) -> Cell:
    return Cell(duration(seconds) if seconds is not None else "")


def troubles(status: Status) -> list[Sequence[Cell]]:
    """Return what is wrong, line by line: the server's, failures with their remedies, and workers that died."""
    lines: list[Sequence[Cell]] = []
    for problem in status.server.problems:
        lines += lines_of(problem, status.server.project)
    for page in status.pages:
        if page.failure is not None:
            lines += lines_of(page.failure, status.server.project, page.route, page.revision)
            continue
        if page.rolled_back_to:
            text = f"  rolled back to revision {page.rolled_back_to}: what is on disk is not served"
            lines.append((Cell("! ", CAUTION), Cell(page.route, STRONG), Cell(text)))
            lines.append((Cell(f"    edit it, or tqserver reload {page.route}", DIM),))
        if page.restarts:
            times = "once" if page.restarts == 1 else f"{page.restarts} times"
            text = f"  a worker died {times}, the last: {page.last_exit}"
            lines.append((Cell("! ", CAUTION), Cell(page.route, STRONG), Cell(text)))
    return lines
