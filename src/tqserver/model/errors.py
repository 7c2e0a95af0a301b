"""Errors that know whose fault they are, where they are and what to do about them.

A mistake of a user gets ``message``, ``location`` and ``remedy`` and no traceback; ours gets a traceback in
the log. ``output`` carries what a compiler or a worker printed, whole.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar


class Fault(enum.Enum):
    """Who can mend it."""

    AUTHOR = "author"  # the page's code or files
    OPERATOR = "operator"  # configuration, machine, permissions
    PLATFORM = "platform"  # TQServer itself


class ExitCode(enum.IntEnum):
    """Exit codes of the command line; ``docs/cli.md`` lists them."""

    OK = 0
    FAILURE = 1
    USAGE = 2  # also what click uses
    CONFIG = 3
    UNAVAILABLE = 4  # port in use, another server runs, no server runs
    PAGE = 5  # a page is broken
    TIMEOUT = 6  # what was waited for did not happen in time


@dataclass(frozen=True, slots=True)
class Location:
    """Where it is wrong. ``line`` and ``column`` count from 1; 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


class TQError(Exception):
    """Base of every error that a user is shown."""

    fault: ClassVar[Fault] = Fault.PLATFORM
    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __init__(self, message: str, *, remedy: str = "", location: Location | None = None, output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.location = location
        self.output = output

    def __str__(self) -> str:
        text = f"{self.location}: {self.message}" if self.location else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class ConfigError(TQError):
    """The configuration is not valid: nothing of it is applied."""

    fault = Fault.OPERATOR
    exit_code = ExitCode.CONFIG


class HostError(TQError):
    """The machine refuses: a port in use, a directory that cannot be read, no inotify watches left."""

    fault = Fault.OPERATOR
    exit_code = ExitCode.UNAVAILABLE


class NotFound(TQError):
    """The user named something that is not there; ``remedy`` names what comes nearest."""

    fault = Fault.OPERATOR
    exit_code = ExitCode.USAGE


class TimedOut(TQError):
    """What was waited for did not happen within the time that the user gave."""

    fault = Fault.OPERATOR
    exit_code = ExitCode.TIMEOUT


class PageError(TQError):
    """A page cannot be served as it is on disk."""

    fault = Fault.AUTHOR
    exit_code = ExitCode.PAGE


class RouteConflict(PageError):
    """Two pages claim one route; neither changes what is live."""


class BuildError(PageError):
    """A build ended without an artifact; ``output`` is all it printed."""


class ToolchainMissing(BuildError):
    """The page's language cannot be built on this machine yet; ``remedy`` says how to get it."""

    fault = Fault.OPERATOR


class StartError(PageError):
    """A worker did not become ready; ``output`` is its traceback or the end of what it printed.

    ``may_pass``: what it needs may come to be without a change of its files, so that it is worth another try.
    """

    may_pass = True


class IllegalTransition(TQError):
    """A state machine was asked for a move that its table does not have: a defect of ours."""


class Defect(TQError):
    """What nobody foresaw: ``output`` is its traceback."""
