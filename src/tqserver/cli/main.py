"""``tqserver [-config FILE] [-quiet]``: run the server of this directory in the foreground."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from tqserver import __version__
from tqserver.control.supervisor import Supervisor
from tqserver.model.config import Config
from tqserver.model.errors import ExitCode, HostError, TQError
from tqserver.model.settings import load_text

DEFAULT_CONFIG = Path("config/server.yaml")


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
        asyncio.run(_run(config, quiet))
    except TQError as error:
        click.echo(f"tqserver: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(ExitCode.OK)


async def _run(config: Config, quiet: bool) -> None:
    await Supervisor(Path.cwd(), config, quiet=quiet).run()


def read_config(file: Path) -> Config:
    """Return the configuration in a file, or the defaults if it is the default file and missing.

    Raises :class:`~tqserver.model.errors.ConfigError`, or :class:`HostError` if it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if file != DEFAULT_CONFIG:
            raise HostError(f"{file}: no such file", remedy="check the path after -config") from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{file}: {error}", remedy="it must be readable, as UTF-8 text") from error
    return load_text(text, str(file), os.environ)


if __name__ == "__main__":
    main()
