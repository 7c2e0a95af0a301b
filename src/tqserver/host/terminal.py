"""What a person sees of a running server: where it is, what went live, what is wrong, and what the pages print.

All else is in the log: JSON in ``server.log_file``, in a pipe, and by ``tqserver events``. A page's output is bounded,
since whoever reads it cannot read more, and since a terminal that is slow must not hold up the server.
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqserver.host import clock
from tqserver.model.pages import route_of
from tqserver.model.text import many_lines, one_line

LINES_PER_SECOND = 100  # of one page; the rest is in its log
LONGEST_SHOWN = 2000  # characters of a line
HELD_LINES = 1000  # of a worker that is not ready yet

Fields = Mapping[str, Any]
Told = tuple[tuple[str, str], str]  # a mark, its colour; and the text, further lines of which stand below it
_GOOD, _BAD, _CAUTION, _PLAIN = ("✓", "32"), ("✗", "31"), ("!", "33"), ("·", "2")
_MARKS = {"error": _BAD, "critical": _BAD, "warning": _CAUTION}
_SAID_OTHERWISE = frozenset(
    {"timestamp", "level", "event", "part", "page", "route", "revision", "worker", "pid", "cause"}
)
_BLOCKS = ("output", "exception")
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_OF_LINES = frozenset({"error", "reason", "remedy", *_BLOCKS})


class Terminal:
    """The terminal that the server was started from."""

    def __init__(self, stream: IO[str], *, colours: bool) -> None:
        self._stream = stream
        self._colours = colours
        self._here = f"{Path.cwd()}{os.sep}"

    def event(self, event: Fields) -> None:
        """Show an event, if it is one for people."""
        told = _tell({name: _spelled(name, value) for name, value in event.items()})
        if told is None:
            return
        (mark, colour), text = told
        stamp = str(event.get("timestamp", ""))[11:19]
        first, *more = text.replace(self._here, "").split("\n")
        self._write(f"{self._in(stamp, '2')} {self._in(mark, colour)} {first}\n")
        self._write("".join(f"    {line}\n" for line in more))

    def lines(self, route: str, lines: Sequence[str]) -> None:
        """Show what a page has printed, unless the terminal takes nothing right now."""
        if select.select([], [self._stream], [], 0)[1]:
            self._write("".join(f"{self._in(route, '36')} {self._in('|', '2')} {self._safe(line)}\n" for line in lines))

    def _in(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text

    def _safe(self, line: str) -> str:
        """Colours may pass; nothing else that a page prints, perhaps a client's words, may control the terminal."""
        line = line.rstrip("\r")
        line = line if len(line) <= LONGEST_SHOWN else line[:LONGEST_SHOWN] + "…"
        parts = [many_lines(part) for part in _SGR.split(line)]
        if not self._colours or len(parts) == 1:
            return "".join(parts)
        codes = [*_SGR.findall(line), "\x1b[0m"]
        return "".join(part + code for part, code in zip(parts, codes, strict=True))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _spelled(name: str, value: object) -> object:
    """Return a field so that nothing in it, a page's name or a client's words, controls the terminal."""
    if isinstance(value, str):
        return many_lines(value) if name in _OF_LINES else one_line(value)
    return [one_line(str(each)) for each in value] if isinstance(value, (list, tuple)) else value


class WorkerOutput:
    """What one worker prints, on the way to ``show``: held back until it is ready, or known not to become so.

    An error that is shown has its output with it, which is not to be read twice.
    """

    def __init__(self, route: str, show: Callable[[str, Sequence[str]], None]) -> None:
        self._route = route
        self._show = show
        self._held: list[str] | None = []
        self._second = 0
        self._shown = 0  # in that second

    def take(self, lines: Sequence[bytes]) -> None:
        """It has printed these lines."""
        text = [line.decode(errors="replace") for line in lines]
        if self._held is None:
            self._show_bounded(text)
        elif len(self._held) < HELD_LINES:
            self._held += text

    def ready(self) -> None:
        """It serves: show what it has printed until now, and what it prints from now on."""
        held, self._held = self._held or [], None
        self._show_bounded(held)

    def failed(self, output: str) -> None:
        """It does not serve, and ``output`` is shown with the reason: show what else it has printed."""
        told = set(output.splitlines())
        self._held = [line for line in self._held or [] if line.strip() and line not in told]
        self.ready()

    def _show_bounded(self, lines: Sequence[str]) -> None:
        if (second := int(clock.monotonic())) != self._second:
            self._second, self._shown = second, 0
        room = LINES_PER_SECOND - self._shown
        self._shown += len(lines)
        shown = list(lines[: max(room, 0)])
        if 0 <= room < len(lines):
            shown.append(f"… more than {LINES_PER_SECOND} lines a second: tqserver logs -f {self._route} has all")
        if shown:
            self._show(self._route, shown)


# --- the words --------------------------------------------------------------------------------------------


def _tell(event: Fields) -> Told | None:
    """Return what is told of an event; None: it is not for people."""
    if (tell := _TOLD.get(str(event["event"]))) is not None:
        return tell(event)
    level = str(event.get("level", "info"))
    return (_MARKS[level], _in_general(event)) if level in _MARKS else None


def _in_general(event: Fields) -> str:
    """Return what is wrong, of whatever kind: the event's own name, and all that is told of it."""
    page = f"page {route_of(event['page'])}: " if event.get("page") else ""
    reason = str(event.get("error") or event.get("reason") or "")
    rest = [
        f"{name}={value:.3f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in event.items()
        if name not in {*_SAID_OTHERWISE, *_BLOCKS, "error", "reason", "remedy"} and value not in ("", None)
    ]
    said = " ".join(
        part for part in (f"{event['event']}:" if reason or rest else str(event["event"]), reason, *rest) if part
    )
    return _with_help(page + said, event)


def _with_help(said: str, event: Fields) -> str:
    """Add the remedy and the output."""
    lines = [said, *str(event.get("remedy") or "").splitlines()]
    for block in filter(None, map(event.get, _BLOCKS)):
        lines += str(block).rstrip("\n").splitlines()
    return "\n".join(lines)


def _serving(event: Fields) -> Told:
    said = f"TQServer is ready at {event['url']} ({event['mode']}, {_counted(event['live'], 'page')})"
    for what, names in (("still starting", event["starting"]), ("broken", event["broken"])):
        if names:
            said += f"; {what}: {', '.join(map(route_of, names))}"
    return _GOOD, said


def _live(event: Fields) -> Told:
    back = f", revision {event['brings_back']} again" if event.get("brings_back") else ""
    return _GOOD, f"page {event['route']} live in {_duration(event['seconds'])}{back}"


def _broken(event: Fields) -> Told:
    where = f"{event['where']}: " if event.get("where") else ""
    serving = event.get("serving")
    still = f" (revision {serving} still serves)" if isinstance(serving, int) else ""
    return _BAD, _with_help(f"page {route_of(event['page'])}: {where}{event['error']}{still}", event)


def _gave_up(event: Fields) -> Told:
    return _BAD, f"page {route_of(event['page'])}: {event['error']}\n{event['remedy']}"


def _exited(event: Fields) -> Told | None:
    """What it printed was shown when it printed it; that of one that was told to end is nobody's concern."""
    if event["level"] != "error":
        return None
    return _BAD, f"page {route_of(event['page'])}: a worker ended ({event['reason']})"


def _still_failing(event: Fields) -> Told:
    return _BAD, f"page {route_of(event['page'])} still fails: {event['error']}"


def _stopping(event: Fields) -> Told:
    if not event["in_flight"]:
        return _PLAIN, "stopping"
    most = f"for {event['deadline_seconds']:g} s at most"
    return _PLAIN, f"finishing {_counted(event['in_flight'], 'request')} {most}; Ctrl-C again ends at once"


def _plain(text: str, of: str = "") -> Callable[[Fields], Told]:
    return lambda event: (_PLAIN, text + (str(event[of]) if of else ""))


_TOLD: Mapping[str, Callable[[Fields], Told | None]] = {
    "server.serving": _serving,
    "revision.live": _live,
    "page.restored": lambda event: (_GOOD, f"page {route_of(event['page'])} is as it was, and live"),
    "config.invalid": lambda event: (_BAD, _with_help(str(event["error"]), event)),
    "pages.missing": lambda event: (_BAD, _with_help(str(event["error"]), event)),
    "page.failed": _broken,
    "build.failed": _broken,
    "route.conflict": _broken,
    "page.gave_up": _gave_up,
    "worker.exited": _exited,
    "page.still_failing": _still_failing,
    "page.gone": lambda event: (_PLAIN, f"page {route_of(event['page'])} is gone"),
    "pages.restored": _plain("the pages directory is there again"),
    "config.applied": _plain("the configuration has changed, and is in force"),
    "config.unchanged": _plain("the configuration is what it was"),
    "server.moved": _plain("moved to ", "url"),
    "metrics.ready": _plain("metrics at ", "url"),
    "upgrade.started": _plain("a new server starts"),
    "upgrade.done": _plain("the new server serves: process ", "pid"),
    "server.stopping": _stopping,
    "server.stopped": _plain("stopped"),
}


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
