"""The server's own log, and the files that the output of workers goes to.

One event is one line of JSON, in ``server.log_file`` and in a pipe; on a terminal stands what a person wants to know
(:mod:`tqserver.host.terminal`). The supervisor writes every file itself, so that a name with ``{date}`` is right after
midnight and a file that logrotate moved is opened again on request (pitfall 27).
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from tqserver.host import clock
from tqserver.host.terminal import Terminal
from tqserver.model.text import many_lines, one_line

Logger = FilteringBoundLogger
Tap = Callable[[Mapping[str, Any], str], None]
_OUTPUT_LINES_KEPT = 50
_LONGEST_LINE = 64 * 1024
_LONGEST_NAME_BYTES = 160  # of the 255 that a file's name may have (NAME_MAX): the template has the rest


class DatedFile:
    """An append-only file whose name is a template, worked out again at each write.

    A write that fails (full disk, unwritable directory) is told once to ``on_error``, and once more when writing
    works again with the number of bytes lost in between: never silently.
    """

    def __init__(
        self, template: Path, fields: Mapping[str, str], on_error: Callable[[str], None] | None = None
    ) -> None:
        self._template = str(template)
        self._fields = dict(fields)
        self._on_error = on_error or _to_stderr
        self._path = ""
        self._fd = -1
        self._lost = 0

    def path(self) -> str:
        """Return the name of the file for a write at this moment."""
        name = self._template.replace("{date}", clock.date_stamp())
        for field, value in self._fields.items():
            name = name.replace("{" + field + "}", value)
        return name

    def write(self, text: bytes) -> None:
        """Append ``text``."""
        try:
            self._open_current()
            while text:
                text = text[os.write(self._fd, text) :]
        except OSError as error:
            if not self._lost:
                self._on_error(f"cannot write {self._path}: {error.strerror}; output is being lost")
            self._lost += len(text)
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._on_error(f"writing {self._path} works again; {lost} bytes were lost")

    def _open_current(self) -> None:
        path = self.path()
        if path == self._path and self._fd >= 0 and self._is_still_there(path):
            return
        self.close()
        self._path = path
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _is_still_there(self, path: str) -> bool:
        """Whether the open file is the one of this name: logrotate moves it away."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; the next write opens it again (that is also how it is reopened on SIGHUP)."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OpenFile(DatedFile):
    """A descriptor that is open already, of a pipe or a terminal perhaps.

    Others write there too: each write is of whole lines and of ``most_bytes`` at most, if no line is longer, so that
    none is torn apart.
    """

    def __init__(self, fileno: int, name: str, most_bytes: int, on_error: Callable[[str], None]) -> None:
        super().__init__(Path(name), {}, on_error)
        self._path = name
        self._fd = fileno
        self._most_bytes = most_bytes

    def _open_current(self) -> None:
        """It is open."""

    def write(self, text: bytes) -> None:
        """Write ``text``, which ends with a line."""
        while text:
            end = text.rfind(b"\n", 0, self._most_bytes) + 1 or text.find(b"\n") + 1
            super().write(text[:end])
            text = text[end:]

    def close(self) -> None:
        """It stays open: others have it."""


def page_log(project: Path, template: str | None, page: str) -> DatedFile | None:
    """Return the file that the output of a page's workers goes to; None if the configuration wants none."""
    if not template:
        return None
    return DatedFile(project / os.path.expanduser(template), {"path": _file_name(page)}, partial(_say_lost, page))


def _file_name(page: str) -> str:
    """Return a page's name as part of a file's: of two pages never the same, since no directory begins with _."""
    name = page.replace("_", "__").replace("/", "_")
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME_BYTES:
        return name
    digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
    return encoded[: _LONGEST_NAME_BYTES - len(digest) - 1].decode(errors="ignore") + "~" + digest


def _say_lost(page: str, what: str) -> None:
    get_logger("log").warning("output.not_written", page=page, error=what)


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


class OutputLines:
    """What a process prints, cut into lines: to its file, to ``tap``, and the last kept for an error message."""

    def __init__(self, file: DatedFile | None, tap: Callable[[list[bytes]], None] | None = None) -> None:
        self._file = file
        self._tap = tap
        self._partial = b""
        self.last: deque[str] = deque(maxlen=_OUTPUT_LINES_KEPT)

    def feed(self, received: bytes) -> None:
        """Take bytes as they come; a line without an end is passed on in pieces once it is long."""
        *lines, self._partial = (self._partial + received).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        if not lines:
            return
        if self._file is not None:
            self._file.write(b"\n".join(lines) + b"\n")
        self.last.extend(line.decode(errors="replace") for line in lines[-_OUTPUT_LINES_KEPT:])
        if self._tap is not None:
            self._tap(lines)

    def finish(self) -> None:
        """The process has ended: what it left of a line is its last."""
        if self._partial:
            self.feed(b"\n")

    def text(self) -> str:
        """Return the last lines."""
        return "\n".join(self.last)


class _Sinks:
    """Where the events of this process go."""

    def __init__(self) -> None:
        self.terminal: Terminal | None = None
        self.pipe: IO[str] | None = None
        self.file: DatedFile | None = None
        self.tap: Tap | None = None


_sinks = _Sinks()
_as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


def configure(*, quiet: bool, file: DatedFile | None) -> None:
    """Set up the server's log: stderr unless ``quiet``, and ``file`` as JSON lines if given."""
    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    is_for_people = sys.stderr.isatty()
    _sinks.terminal = Terminal(sys.stderr, colours=colours) if is_for_people and not quiet else None
    _sinks.pipe = None if is_for_people or quiet else sys.stderr
    if _sinks.file is not None:
        _sinks.file.close()
    _sinks.file = file
    _configure_structlog()


def tap(take: Tap | None) -> None:
    """Have ``take`` called with every event from now on, and with its JSON line; None ends that.

    It must not log.
    """
    _sinks.tap = take


def show_printed(route: str, lines: Sequence[str]) -> None:
    """A page has printed these lines: a person at the terminal sees them; files of the pages have them anyway."""
    if _sinks.terminal is not None:
        _sinks.terminal.lines(route, lines)


def configure_json() -> None:
    """Set up the log of a program below control: JSON lines on stderr, which control reads."""
    _sinks.terminal, _sinks.pipe, _sinks.file = None, sys.stderr, None
    _configure_structlog()


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamp,
            structlog.processors.format_exc_info,
            _write,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["timestamp"] = clock.stamp()
    return event


def _write(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Last processor: write the event to every sink."""
    line = str(_as_json(None, "", dict(event))) + "\n"
    if _sinks.file is not None:
        _sinks.file.write(line.encode(errors="backslashreplace"))
    if _sinks.terminal is not None:
        _sinks.terminal.event(event)
    if _sinks.pipe is not None:
        _sinks.pipe.write(line)
        _sinks.pipe.flush()
    if _sinks.tap is not None:
        _sinks.tap(event, line)
    raise structlog.DropEvent


_MARKS = {"error": ("✗", "31"), "critical": ("✗", "31"), "warning": ("!", "33"), "info": ("·", "32")}
_MULTILINE = ("output", "exception")


def for_people(event: Mapping[str, Any], *, colours: bool) -> str:
    """Return an event as a line, with all that it has: time, name, fields; output and tracebacks below it."""
    fields = dict(event)
    stamp = str(fields.pop("timestamp", ""))[11:19]
    mark, colour = _MARKS.get(str(fields.pop("level", "info")), _MARKS["info"])
    name = one_line(str(fields.pop("event", "")))
    fields.pop("part", None)
    below = [many_lines(str(fields.pop(key))) for key in _MULTILINE if fields.get(key)]
    rest = " ".join(f"{one_line(key)}={_short(value)}" for key, value in fields.items() if value not in ("", None))
    if colours:
        mark, stamp, rest = f"\x1b[{colour}m{mark}\x1b[0m", f"\x1b[2m{stamp}\x1b[0m", f"\x1b[2m{rest}\x1b[0m"
        name = f"\x1b[1m{name}\x1b[0m"
    shown = f"{stamp} {mark} {name} {rest}".rstrip() + "\n"
    for block in below:
        shown += "".join(f"    {line}\n" for line in block.rstrip("\n").split("\n"))
    return shown


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    shown = one_line(str(value))
    return f'"{shown}"' if " " in shown else shown


def get_logger(name: str) -> Logger:
    """Return the logger of one part of the program."""
    return cast(Logger, structlog.get_logger(part=name))  # lazy: configured later
