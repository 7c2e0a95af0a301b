"""``tqserver check``: what is wrong, without running anything."""

from __future__ import annotations

import click

from tqserver.cli.findings import show
from tqserver.cli.session import Session, config_option, json_option, pass_session
from tqserver.model.errors import ExitCode


@click.command()
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session) -> None:
    """Check a project without running it.

    The configuration, the pages, their syntax and routes, and toolchains. No server is needed.
    """
    from tqserver.control.check import check

    found = check(session.root, session.config_file)
    show(session.output, found, session.root)
    if any(finding.level == "problem" and finding.name == "configuration" for finding in found.findings):
        ctx.exit(ExitCode.CONFIG)
    if found.has_problem:
        ctx.exit(ExitCode.PAGE)
