"""``tqserver events [-f]``: what the server did."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.session import Session, config_option, json_option, pass_session
from tqserver.wire.codec import from_json


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with those to come, until interrupted.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="NUMBER", help="Only those after this number.")
@config_option
@json_option
@pass_session
def command(session: Session, follow: bool, after: int) -> None:
    """Show what the server did.

    The last 1000 events of its log.
    """
    output = session.output
    try:
        for line in Client(session.root).lines("/v1/events", after=after, follow=follow):
            if output.as_json:
                output.raw(line)
            else:
                output.text(_for_people(line, colours=output.colours))
    except KeyboardInterrupt:
        return
    if follow:
        output.note("the server has ended")


def _for_people(line: bytes, *, colours: bool) -> str:
    from tqserver.host.log import for_people  # JSON needs none of it

    event = from_json(line)
    del event["number"]
    return for_people(event, colours=colours).rstrip("\n")
