"""``config/server.yaml`` on disk: read strictly, at start and whenever it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tqserver.host import reading
from tqserver.host.identity import identity_of
from tqserver.host.limits import most_open_files
from tqserver.host.rundir import CONFIG_FILE
from tqserver.model.config import Config
from tqserver.model.errors import ConfigError, HostError, Location
from tqserver.model.given import dotted
from tqserver.model.settings import Contradiction, Judge, load_text, place_of, worker_settings
from tqserver.model.yaml_text import LARGEST_BYTES


class ConfigFile:
    """The file that configures a server; the default one may be missing, which means the defaults."""

    def __init__(self, project: Path, file: Path, environ: Mapping[str, str]) -> None:
        self.shown = file  # as it was given: what messages name
        self._environ = environ
        self.path = project / file

    def read_to_serve(self) -> Config:
        """Return what it says, if this process on this machine can do all of it. Raises as :meth:`read` does."""
        return self._read(_refused_by_this_machine)

    def read(self) -> Config:
        """Return what it says, with the environment's variables over it; users need not be of this machine.

        Raises :class:`~tqserver.model.errors.ConfigError`, also if it cannot be read.
        """
        return self._read(lambda _: ())

    def where(self, *key: str) -> Location:
        """Return the place of a setting, for an error that comes to light when it is acted on.

        Raises :class:`ConfigError` if the file cannot be read.
        """
        return place_of(key, self._text(), str(self.shown), self._environ)

    def _read(self, judge: Judge) -> Config:
        return load_text(self._text(), str(self.shown), self._environ, judge)

    def _text(self) -> str:
        try:
            return reading.read(self.path, LARGEST_BYTES).decode()
        except FileNotFoundError:
            if self.shown != CONFIG_FILE:
                raise ConfigError(f"{self.shown}: no such file", remedy="check the path after -config") from None
            return ""
        except reading.Refused as error:
            raise HostError(f"{self.shown}: {error.strerror}", remedy=error.remedy) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.shown}: {error}", remedy="it must be readable, as UTF-8 text") from error


def _refused_by_this_machine(config: Config) -> Iterator[Contradiction]:
    """Users that are not there or not to be had, limits above the server's own: each where it was given."""
    seen: set[str | int] = {"", 0}
    for key, settings in worker_settings(config):
        if settings.user not in seen:
            try:
                identity_of(settings.user)
            except HostError as error:
                yield Contradiction(((*key, "user"),), f"{dotted((*key, 'user'))}: {error.message}", error.remedy)
        if settings.open_files not in seen and settings.open_files > (most := most_open_files()):
            yield Contradiction(
                ((*key, "open_files"),),
                f"{dotted((*key, 'open_files'))}: {settings.open_files} is more than this server may have ({most})",
                "lower it, or raise the server's own limit (LimitNOFILE in the unit file, ulimit -Hn)",
            )
        seen |= {settings.user, settings.open_files}
