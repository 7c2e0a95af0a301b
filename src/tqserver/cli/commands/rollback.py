"""``tqserver rollback ROUTE [REVISION]``: an earlier revision, in place of what is on disk."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.outcomes import show
from tqserver.cli.session import Session, config_option, json_option, one_route_argument, pass_session
from tqserver.model.status import Outcomes


@click.command()
@one_route_argument
@click.argument("revision", type=click.IntRange(1), required=False)
@config_option
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, route: str, revision: int | None) -> None:
    """Go back to an earlier revision.

    REVISION of ROUTE, or the one before the live one, without a lost request. It serves until the page's files
    are edited; tqserver reload ROUTE ends it, too.

    tqserver revisions lists what can be gone back to.
    """
    with session.output.progress(f"rolling back {route}"):
        outcomes = Client(session.root).post("/v1/rollback", Outcomes, route=route, revision=revision)
    ctx.exit(show(session.output, outcomes, session.root, each=True))
