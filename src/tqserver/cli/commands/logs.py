"""``tqserver logs [-f] [ROUTE]``: what pages print. Without ``-f`` it needs no server."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.output import DIM, Cell, Output
from tqserver.cli.session import Session, config_option, json_option, pass_session, route_argument
from tqserver.model.pages import find
from tqserver.model.status import Logs
from tqserver.wire.codec import from_json


@click.command()
@route_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on, until interrupted.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the last lines."
)
@config_option
@json_option
@pass_session
def command(session: Session, route: str, follow: bool, lines: int) -> None:
    """Show what pages have printed.

    The workers of ROUTE, or of all pages. Without -f no server is needed.
    """
    if not follow:
        ends = _ends(session, route, lines)
        _show(session.output, ends)
        if lines and not any(log.lines for log in ends.logs):
            session.output.note("nothing has been printed into the current log files")
        return
    try:
        for line in Client(session.root).lines("/v1/logs", route=route, lines=lines, follow=True):
            _follow(session.output, line, named=not route)
    except KeyboardInterrupt:
        return
    session.output.note("the server has ended")


def _ends(session: Session, route: str, lines: int) -> Logs:
    """The files are there whether or not a server is."""
    from tqserver.control.discovery import discover  # -f needs none of it
    from tqserver.control.logs import end_of

    config = session.config()
    pages = discover(session.root / config.pages.directory).pages
    names = [find(pages, route)] if route else sorted(pages)
    return Logs([end_of(session.root, config, name, lines) for name in names])


def _show(output: Output, logs: Logs) -> None:
    if output.as_json:
        output.document(logs)
        return
    for log in logs.logs:
        if not log.file:
            output.note(f"{log.route}: the configuration keeps no file (log_file)")
        elif len(logs.logs) > 1 and log.lines:
            output.line(Cell(f"==> {log.file} <==", DIM))
        for line in log.lines:
            output.text(line)


def _follow(output: Output, line: bytes, *, named: bool) -> None:
    if output.as_json:
        output.raw(line)
        return
    said = from_json(line)
    if said.get("lost"):
        output.note(f"{said['lost']} lines were lost: they come faster than they are read")
    output.text(said["text"], Cell(f"{said['page']} | ", DIM) if named else None)
