"""``tqserver [-config FILE] [-quiet]``: run the server of this directory in the foreground."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from tqserver import __version__
from tqserver.control.check import DEFAULT_CONFIG, read_config
from tqserver.control.supervisor import Supervisor
from tqserver.model.config import Config
from tqserver.model.errors import ExitCode, TQError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-config",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration; without the file, defaults are used.",
)
@click.option("-quiet", "--quiet", is_flag=True, help="Print nothing; log files are still written.")
@click.version_option(__version__, "--version")
def main(config_file: Path, quiet: bool) -> None:
    """Run the server of this directory: each directory below pages/ answers its path as a URL."""
    try:
        config = read_config(config_file)
        asyncio.run(_run(config, config_file, quiet))
    except TQError as error:
        click.echo(f"tqserver: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(ExitCode.OK)


async def _run(config: Config, config_file: Path, quiet: bool) -> None:
    await Supervisor(Path.cwd(), config, config_file=config_file, quiet=quiet).run()


if __name__ == "__main__":
    main()
