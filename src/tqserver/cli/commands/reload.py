"""``tqserver reload [ROUTE]``: fresh workers, though nothing has changed."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.outcomes import show
from tqserver.cli.session import Session, config_option, json_option, pass_session, route_argument
from tqserver.model.status import Outcomes


@click.command()
@route_argument
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, route: str) -> None:
    """Start fresh workers and swap them in.

    Those of ROUTE, or of all pages, changed or not, without a lost request.

    A page whose workers keep dying is started at once, instead of after its backoff.
    """
    with session.output.progress(f"reloading {route or 'all pages'}"):
        outcomes = Client(session.root).post("/v1/reload", Outcomes, route=route)
    ctx.exit(show(session.output, outcomes, session.root, each=True))
