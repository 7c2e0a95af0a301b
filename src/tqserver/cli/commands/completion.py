"""``tqserver completion SHELL``: a script that completes verbs, options and routes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tqserver.model.errors import HostError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TQSERVER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script for completion.

    It completes verbs, options and routes.

    \b
    bash  eval "$(tqserver completion bash)"                       in ~/.bashrc
    zsh   eval "$(tqserver completion zsh)"                        in ~/.zshrc
    fish  tqserver completion fish > ~/.config/fish/completions/tqserver.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        click.echo(kind(ctx.find_root().command, {}, "tqserver", VARIABLE).source())
    except RuntimeError as error:  # click asks the shell for its version
        raise HostError(f"{shell}: {error}", remedy="install a newer one") from error
