"""``config/server.yaml`` on disk: read strictly, at start and whenever it changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tqserver.host.rundir import CONFIG_FILE
from tqserver.model.config import Config
from tqserver.model.errors import HostError, Location
from tqserver.model.settings import load_text, place_of


class ConfigFile:
    """The file that configures a server; the default one may be missing, which means the defaults."""

    def __init__(self, project: Path, file: Path, environ: Mapping[str, str]) -> None:
        self.shown = file  # as it was given: what messages name
        self._environ = environ
        self.path = project / file

    def read(self) -> Config:
        """Return what it says, with the environment's variables over it.

        Raises :class:`~tqserver.model.errors.ConfigError`, or :class:`HostError` if it cannot be read.
        """
        return load_text(self._text(), str(self.shown), self._environ)

    def where(self, *key: str) -> Location:
        """Return the place of a setting, for an error that comes to light when it is acted on.

        Raises :class:`HostError` if the file cannot be read.
        """
        return place_of(key, self._text(), str(self.shown), self._environ)

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if self.shown != CONFIG_FILE:
                raise HostError(f"{self.shown}: no such file", remedy="check the path after -config") from None
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"{self.shown}: {error}", remedy="it must be readable, as UTF-8 text") from error
