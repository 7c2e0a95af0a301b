"""What the options say, wherever they stand: ``tqserver -config FILE status`` is ``tqserver status -config FILE``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tqserver.cli.output import Output
from tqserver.host.rundir import CONFIG_FILE

if TYPE_CHECKING:
    from tqserver.control.config_file import ConfigFile
    from tqserver.model.config import Config

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """One call of the command, in the project that is the working directory."""

    root: Path = field(default_factory=Path.cwd)
    config_file: Path = CONFIG_FILE
    quiet: bool = False
    as_json: bool = False

    @property
    def output(self) -> Output:
        """Where results go."""
        return Output(as_json=self.as_json)

    def config(self) -> Config:
        """Return the configuration. Raises :class:`~tqserver.model.errors.ConfigError`."""
        return self.file().read()

    def file(self) -> ConfigFile:
        """Return the configuration's file, to be read."""
        from tqserver.control.config_file import ConfigFile  # YAML takes a while

        return ConfigFile(self.root, self.config_file, os.environ)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            setattr(context.ensure_object(Session), name, value)

    return remember


def config_option(function: FunctionT) -> FunctionT:
    """Add ``-config FILE``."""
    return click.option(
        "-config",
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The configuration [{CONFIG_FILE}]; without the file, defaults are used.",
        callback=_store("config_file"),
        expose_value=False,
    )(function)


def quiet_option(function: FunctionT) -> FunctionT:
    """Add ``-quiet``."""
    return click.option(
        "-quiet",
        "--quiet",
        is_flag=True,
        help="Print nothing; log files are still written.",
        callback=_store("quiet"),
        expose_value=False,
    )(function)


def json_option(function: FunctionT) -> FunctionT:
    """Add ``--json``."""
    return click.option(
        "--json",
        is_flag=True,
        help="Print JSON, for programs (docs/admin.md says what is in it).",
        callback=_store("as_json"),
        expose_value=False,
    )(function)


def route_argument(function: FunctionT) -> FunctionT:
    """Add ``[ROUTE]``: a route ("/api") or a page ("api"); "" is all of them."""
    return click.argument("route", default="", shell_complete=_complete_route)(function)


def one_route_argument(function: FunctionT) -> FunctionT:
    """Add ``ROUTE``, which must be given."""
    return click.argument("route", shell_complete=_complete_route)(function)


def _complete_route(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Offer the routes that begin so; nothing if the project cannot be read."""
    from tqserver.control.discovery import discover
    from tqserver.model.errors import TQError

    session = context.ensure_object(Session)
    try:
        found = discover(session.root / session.config().pages.directory)
    except TQError:
        return []
    return [page.route for page in found.pages.values() if page.route.startswith(typed)]


pass_session = click.make_pass_decorator(Session, ensure=True)
