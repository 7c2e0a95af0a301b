"""What is wrong with a page, wherever it is printed: the place, the message, and the remedy below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqserver.cli.output import BAD, DIM, STRONG, Cell
from tqserver.model.status import FailureStatus


def place(where: str, root: Path | str) -> str:
    """Return "pages/api/main.py:3: ", as seen from the project; "" if the place is not known."""
    return f"{where.removeprefix(f'{root}/')}: " if where else ""


def lines_of(failure: FailureStatus, root: Path | str, route: str = "", serving: int = 0) -> list[Sequence[Cell]]:
    """Return the lines; ``serving`` is the revision that goes on meanwhile, 0 if none does."""
    named = [Cell(route, STRONG), Cell("  ")] if route else []
    serves_on = f" (revision {serving} serves on)" if serving else ""
    said = Cell(f"{place(failure.where, root)}{failure.message}{serves_on}")
    lines: list[Sequence[Cell]] = [(Cell("✗ ", BAD), *named, said)]
    if failure.remedy:
        lines.append((Cell(f"    {failure.remedy}", DIM),))
    return lines
