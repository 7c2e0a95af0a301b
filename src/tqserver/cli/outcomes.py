"""What ``wait``, ``reload`` and ``rollback`` print: what became of each page."""

from __future__ import annotations

from pathlib import Path

from tqserver.cli.output import BAD, DIM, GOOD, STRONG, Cell, Output, duration
from tqserver.model.errors import ExitCode
from tqserver.model.status import Outcome, Outcomes


def show(output: Output, outcomes: Outcomes, root: Path, *, each: bool) -> ExitCode:
    """Print the outcomes, those that went well one by one or only counted; return the exit code they mean."""
    failed = [page for page in outcomes.pages if page.failure is not None]
    code = ExitCode.PAGE if failed else ExitCode.OK
    if output.as_json:
        output.document(outcomes)
        return code
    fine = [page for page in outcomes.pages if page.failure is None]
    for page in fine if each else ():
        brings_back = f" and brings back revision {page.rolled_back_to}" if page.rolled_back_to else ""
        output.line(Cell("✓ ", GOOD), Cell(page.route, STRONG), f"  revision {page.revision} is live{brings_back}")
    for page in failed:
        _failure(output, page, root)
    if not each or len(outcomes.pages) != 1:
        pages = "1 page is" if len(fine) == 1 else f"{len(fine)} pages are"
        broken = f", {len(failed)} failed" if failed else ""
        output.line(f"{pages} as on disk{broken}", Cell(f"  ({duration(outcomes.seconds)})", DIM))
    return code


def _failure(output: Output, page: Outcome, root: Path) -> None:
    failure = page.failure
    assert failure is not None
    where = f"{failure.where.removeprefix(f'{root}/')}: " if failure.where else ""
    serving = f" (revision {page.revision} serves on)" if page.revision else ""
    output.line(Cell("✗ ", BAD), Cell(page.route, STRONG), f"  {where}{failure.message}{serving}")
    if failure.remedy:
        output.line(Cell(f"    {failure.remedy}", DIM))
    output.block(failure.output)
