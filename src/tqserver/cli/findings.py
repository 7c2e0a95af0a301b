"""Lines of ``check`` and ``doctor``: OK, or what is wrong and the remedy."""

from __future__ import annotations

from pathlib import Path

from tqserver.cli.failures import place
from tqserver.cli.output import BAD, CAUTION, DIM, GOOD, STRONG, Cell, Output
from tqserver.model.status import Findings

LEAST_WIDTH = 13
MARKS = {"ok": Cell("OK      ", GOOD), "note": Cell("NOTE    ", CAUTION), "problem": Cell("PROBLEM ", BAD)}


def show(output: Output, found: Findings, root: Path) -> None:
    """Print each finding in a line, its remedy below it."""
    if output.as_json:
        output.document(found)
        return
    width = max([LEAST_WIDTH, *(len(finding.name) for finding in found.findings)])
    for finding in found.findings:
        said = f"  {place(finding.where, root)}{finding.found}"
        output.line(MARKS[finding.level], Cell(finding.name.ljust(width), STRONG), said)
        if finding.remedy:
            output.line(Cell(f"          {finding.remedy}", DIM))
