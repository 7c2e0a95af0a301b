"""What is printed: JSON for programs, plain aligned text for pipes, colours and tables on a terminal.

The one place that knows terminals. Results go to stdout, errors and progress to stderr. ``NO_COLOR`` takes the
colours away and keeps the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from tqserver.model.errors import TQError
from tqserver.model.status import Refusal
from tqserver.model.text import many_lines
from tqserver.wire.codec import to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GOOD, BAD, CAUTION, DIM, STRONG = "green", "red", "yellow", "dim", "bold"
_GAP = 2
_HANGING = " " * 6


@dataclass(frozen=True, slots=True)
class Column:
    """``drop``: on a terminal that is too narrow, the column with the highest goes first; 0 stays."""

    title: str
    right: bool = False
    drop: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and how it looks on a terminal."""

    text: str
    style: str = ""


Row = Sequence[Cell]


class Output:
    """Prints the results of one command."""

    def __init__(self, *, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self.is_terminal = _is_terminal(self._stdout)

    # --- programs -----------------------------------------------------------------------------------------

    def document(self, value: Any) -> None:
        """Print a value as one line of JSON."""
        self._stdout.write(to_json(value).decode() + "\n")
        self._stdout.flush()

    def raw(self, line: bytes) -> None:
        """Print a line of JSON as it came."""
        self._stdout.write(line.decode())
        self._stdout.flush()

    # --- people -------------------------------------------------------------------------------------------

    def line(self, *parts: Cell | str) -> None:
        """Print one line; a terminal that is too narrow is shown several, cut between words."""
        cells = [Cell(part) if isinstance(part, str) else part for part in parts]
        for line in wrapped(cells, self._width) if self.is_terminal else [cells]:
            self._write("".join(self.styled(cell) for cell in line).rstrip())

    def text(self, text: str, named: Cell | None = None) -> None:
        """Print what somebody else has written, after whose it is: a pipe is given it as it is.

        On a terminal control characters are spelled out: a client of a page can have a hand in what it prints.
        """
        self._write((self.styled(named) if named is not None else "") + self._shown(text))

    def _shown(self, text: str) -> str:
        return many_lines(text) if self._stdout.isatty() else text

    def _write(self, text: str) -> None:
        self._stdout.write(text + "\n")
        self._stdout.flush()

    def block(self, text: str) -> None:
        """Print what a compiler or a worker printed, below what it belongs to."""
        for line in self._shown(text).rstrip("\n").split("\n") if text.strip() else []:
            self._write(self.styled(Cell(f"    {line}", DIM)))

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Print rows; a terminal that is too narrow is shown fewer columns, a pipe all of them."""
        if self.is_terminal:
            self._console().print(self.rendered(columns, rows))
            return
        widths = _widths(columns, rows)
        for row in ([Cell(column.title) for column in columns], *rows):
            padded = (_padded(*each) for each in zip(row, columns, widths, strict=True))
            self._write((" " * _GAP).join(padded).rstrip())

    def rendered(self, columns: Sequence[Column], rows: Sequence[Row]) -> RenderableType:
        """Return rows as a table of rich, as wide as the terminal at most."""
        from rich.table import Table  # only terminals pay for it
        from rich.text import Text

        shown = fitting(columns, rows, self._width)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style=DIM)
        for place in shown:
            column = columns[place]
            table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(row[place].text, style=row[place].style) for place in shown))
        return table

    def error(self, error: TQError) -> None:
        """Print why a command failed: to a program as a document, to people on stderr."""
        if self.as_json:
            where = str(error.location or "")
            self.document(
                {"error": Refusal(error.message, error.remedy, where, error.output, int(type(error).exit_code))}
            )
            return
        self._stderr.write(f"tqserver: {error}\n")
        if error.output.strip():
            shown = many_lines(error.output) if self._stderr.isatty() else error.output
            self._stderr.write("".join(f"    {line}\n" for line in shown.rstrip("\n").split("\n")))

    def note(self, text: str) -> None:
        """Print what is no result on stderr."""
        if not self.as_json:
            self._stderr.write(text + "\n")

    @contextlib.contextmanager
    def progress(self, text: str) -> Iterator[None]:
        """Show that something goes on, on a terminal."""
        if self.as_json or not _is_terminal(self._stderr):
            yield
            return
        from rich.console import Console

        with Console(file=self._stderr, no_color=bool(os.environ.get("NO_COLOR"))).status(text):
            yield

    @contextlib.contextmanager
    def screen(self) -> Iterator[Any]:
        """Give a rich Live that redraws in place; only on a terminal."""
        from rich.live import Live

        with Live(console=self._console(), screen=True, auto_refresh=False) as live:
            yield live

    # --- terminals ----------------------------------------------------------------------------------------

    @property
    def colours(self) -> bool:
        """Whether to colour."""
        return self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def _width(self) -> int:
        return shutil.get_terminal_size().columns

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self._stdout, no_color=not self.colours, highlight=False)

    def styled(self, cell: Cell) -> str:
        """Return a text with its looks, if this is a terminal that has them."""
        if not cell.style or not self.colours:
            return cell.text
        if cell.style in (DIM, STRONG):
            return click.style(cell.text, dim=cell.style == DIM or None, bold=cell.style == STRONG or None)
        return click.style(cell.text, fg=cell.style)


def fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """Return the places of the columns to show in this width, leaving out first what may go first."""
    widths = _widths(columns, rows)
    shown = list(range(len(columns)))
    while sum(widths[place] + _GAP for place in shown) - _GAP > width:
        droppable = [place for place in shown if columns[place].drop]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda place: columns[place].drop))
    return shown


def wrapped(cells: Sequence[Cell], width: int) -> list[list[Cell]]:
    """Return cells as lines of this width at most, cut between words, and indented from the second on."""
    lines: list[list[Cell]] = [[]]
    used = 0
    for cell in cells:
        for word in re.findall(r"[^ ]+ *| +", cell.text):
            if used + len(word.rstrip()) > width and used > len(_HANGING):
                lines.append([Cell(_HANGING)])
                used = len(_HANGING)
            lines[-1].append(Cell(word, cell.style))
            used += len(word)
    return lines


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [max(len(text) for text in (c.title, *(row[i].text for row in rows))) for i, c in enumerate(columns)]


def _padded(cell: Cell, column: Column, width: int) -> str:
    return cell.text.rjust(width) if column.right else cell.text.ljust(width)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


# --- values for people ------------------------------------------------------------------------------------


def megabytes(count: int) -> str:
    """51 MB."""
    return f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """How long, in the two largest units: "0.4 ms", "340 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h"."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
