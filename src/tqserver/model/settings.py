"""Text to configuration: strict, with file, line and column.

Nothing is coerced and nothing is ignored: an unknown or repeated key, a value of another kind or out of range,
and settings that contradict each other are errors. All of them are reported at once, and nothing of a text with
an error is applied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tqserver.model.config import Config, WorkerSettings, section_of
from tqserver.model.errors import ConfigError, Location
from tqserver.model.given import PATHS, Given, Key, dotted, read_environment, read_file

DEFAULT: Key = ("workers", "default")


class ConfigProblems(ConfigError):
    """All that is wrong with a configuration: ``problems``, in the order of their places."""

    def __init__(self, problems: list[ConfigError]) -> None:
        if len(problems) == 1:
            only = problems[0]
            super().__init__(only.message, remedy=only.remedy, location=only.location)
        else:
            lines = "".join(f"\n  {problem}" for problem in problems)
            super().__init__(f"{len(problems)} mistakes in the configuration:{lines}")
        self.problems = problems


def load_text(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """Return the configuration in a YAML text, with the TQSERVER_* variables of ``environ`` over it.

    ``file`` is the text's name in messages. An empty text is the defaults. Raises :class:`ConfigProblems`.
    """
    given, variables = Given(), Given()
    read_file(text, file, given)
    read_environment(environ, variables)
    given.values |= variables.values
    given.places |= variables.places
    given.wrong |= variables.wrong
    _require(given)
    config = None if given.wrong else _assemble(Config, (), given)
    if config is not None:
        _cross_check(config, given)
    problems = sorted(given.problems, key=_in_order) + variables.problems
    if problems or config is None:
        raise ConfigProblems(problems)
    return config


def defaults(environ: Mapping[str, str]) -> Config:
    """Return what holds without a file. Raises :class:`ConfigProblems` for a variable that is wrong."""
    return load_text("", "", environ)
