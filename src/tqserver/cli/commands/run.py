"""``tqserver run``: the server, in the foreground, until a signal says stop."""

from __future__ import annotations

import asyncio

import click

from tqserver.cli.session import Session, config_option, pass_session, quiet_option


@click.command()
@config_option
@quiet_option
@pass_session
def command(session: Session) -> None:
    """Run the server in the foreground."""
    asyncio.run(_run(session))


async def _run(session: Session) -> None:
    from tqserver.control.supervisor import Supervisor  # no other verb needs it

    await Supervisor(session.root, session.file(), quiet=session.quiet).run()
