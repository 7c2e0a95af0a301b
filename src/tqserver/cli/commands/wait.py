"""``tqserver wait [ROUTE]``: until exactly what is on disk now is being served."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.outcomes import show
from tqserver.cli.session import Session, config_option, json_option, pass_session, route_argument
from tqserver.model.status import Outcomes


@click.command()
@route_argument
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Fail after so long; meanwhile wait for the server to start, too.",
)
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, route: str, timeout: float | None) -> None:
    """Wait until what is on disk is served.

    Exactly what is on disk now, by ROUTE or by all pages. Fails with the error if it cannot be.
    """
    client = Client(session.root)
    with session.output.progress(f"waiting for {route or 'all pages'}"):
        if timeout is not None:
            timeout = client.until_there(timeout)
        outcomes = client.get("/v1/wait", Outcomes, patient=True, route=route, timeout=timeout)
    ctx.exit(show(session.output, outcomes, session.root, each=bool(route)))
