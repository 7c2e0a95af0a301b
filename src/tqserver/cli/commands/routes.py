"""``tqserver routes``: which page answers a URL, and why. Needs no server."""

from __future__ import annotations

import os

import click

from tqserver.cli.failures import lines_of
from tqserver.cli.output import BAD, DIM, GOOD, STRONG, Cell, Column, Output
from tqserver.cli.session import Session, config_option, json_option, pass_session
from tqserver.model.errors import ExitCode
from tqserver.model.status import Explanation, Routes


@click.command()
@click.option("--explain", "url", metavar="URL", help="Say which page answers this URL or path, and why.")
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, url: str | None) -> None:
    """Show which page answers which URL.

    The strongest route first. No server is needed.
    """
    from tqserver.control.discovery import discover
    from tqserver.control.status import routes

    found = routes(discover(session.root / session.config().pages.directory), url)
    output = session.output
    if output.as_json:
        output.document(found)
    elif found.explanation is not None:
        _explain(output, found.explanation)
    else:
        _table(output, found, str(session.root))
    if found.problems and url is None:
        ctx.exit(ExitCode.PAGE)
    if found.explanation is not None and not found.explanation.page:
        ctx.exit(ExitCode.FAILURE)


def _table(output: Output, found: Routes, root: str) -> None:
    rows = [
        [Cell(row.route, STRONG), Cell(os.path.relpath(row.directory, root)), Cell(row.runtime, DIM)]
        for row in found.routes
    ]
    output.table([Column("ROUTE"), Column("PAGE"), Column("RUNTIME", drop=1)], rows)
    for problem in found.problems:
        for line in lines_of(problem, root):
            output.line(*line)


def _explain(output: Output, explanation: Explanation) -> None:
    said = f" (as {explanation.path})" if explanation.path not in ("", explanation.url) else ""
    if explanation.page:
        output.line(Cell("✓ ", GOOD), Cell(explanation.url, STRONG), said, f" is answered by pages/{explanation.page}")
    else:
        output.line(Cell("✗ ", BAD), Cell(explanation.url, STRONG), said, " is answered by no page")
    output.line(f"    {explanation.reason}")
    for name, value in explanation.parameters.items():
        output.line(f"    [{name}] is {value!r}")
    for candidate in explanation.candidates:
        if not candidate.answers:
            output.line(Cell(f"  {candidate.route}  {candidate.reason}", DIM))
