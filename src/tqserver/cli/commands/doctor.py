"""``tqserver doctor``: what the machine has, and what it lacks."""

from __future__ import annotations

import click

from tqserver.cli.client import Client, NoServer
from tqserver.cli.findings import show
from tqserver.cli.session import Session, config_option, json_option, pass_session
from tqserver.model.errors import ExitCode
from tqserver.model.status import Status


@click.command()
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session) -> None:
    """Look at the machine.

    Python, toolchains, limits, ports, disk: each line says OK or the remedy.
    """
    from tqserver.control.doctor import examine

    try:
        status = Client(session.root).get("/v1/status", Status)
    except NoServer:
        status = None
    found = examine(session.root, session.config(), status)
    show(session.output, found, session.root)
    ctx.exit(ExitCode.FAILURE if found.has_problem else ExitCode.OK)
