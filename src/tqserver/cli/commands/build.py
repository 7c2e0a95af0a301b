"""``tqserver build [ROUTE]``: artifacts into the store, without a server, so that its start finds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tqserver.cli.failures import lines_of
from tqserver.cli.output import DIM, GOOD, STRONG, Cell, Output, duration
from tqserver.cli.session import Session, config_option, json_option, pass_session, route_argument
from tqserver.model.errors import ExitCode

if TYPE_CHECKING:
    from tqserver.cli.builder import Built


@click.command()
@route_argument
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, route: str) -> None:
    """Build pages into the store.

    ROUTE, or all pages. No server is needed, and one that runs is not disturbed.
    """
    from tqserver.cli.builder import build  # brings in half of control

    with session.output.progress(f"building {route or 'all pages'}"):
        results = build(session.root, session.config(), route)
    if session.as_json:
        session.output.document({"pages": results, "version": 1})
    else:
        for built in results:
            _show(session.output, built, session.root)
    ctx.exit(ExitCode.PAGE if any(built.failure is not None for built in results) else ExitCode.OK)


def _show(output: Output, built: Built, root: Path) -> None:
    if built.failure is None:
        took = "there already" if built.reused else f"built in {duration(built.seconds)}"
        output.line(Cell("✓ ", GOOD), Cell(built.route, STRONG), f"  {took}", Cell(f"  {built.digest}", DIM))
        return
    for line in lines_of(built.failure, root, built.route):
        output.line(*line)
    output.block(built.failure.output)
