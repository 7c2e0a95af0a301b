"""``tqserver [-config FILE] [-quiet] [VERB]``: without a verb, run the server of this directory."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import click

from tqserver import __version__
from tqserver.cli.session import Session, config_option, json_option, quiet_option
from tqserver.model.errors import TQError

VERBS = (
    "run",
    "new",
    "status",
    "routes",
    "check",
    "build",
    "logs",
    "events",
    "wait",
    "reload",
    "rollback",
    "revisions",
    "doctor",
    "completion",
)


class Verbs(click.Group):
    """The verbs, each imported when it is called; an error that a user is shown ends it with its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are needed."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"tqserver.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; name the nearest if there is none."""
        if args[0] not in VERBS:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"No such verb {args[0]!r}." + (f" Did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out."""
        try:
            return super().invoke(ctx)
        except TQError as error:
            ctx.ensure_object(Session).output.error(error)
            ctx.exit(error.exit_code)


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[VERB] ...",
)
@config_option
@quiet_option
@json_option
@click.version_option(__version__, "--version")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run the server of this directory, or ask the one that runs here.

    Each directory below pages/ answers its path as a URL. Without a verb: run.
    """
    ctx.ensure_object(Session)
    if ctx.invoked_subcommand is None:
        command = main.get_command(ctx, "run")
        assert command is not None
        ctx.invoke(command)


if __name__ == "__main__":
    main()
