"""What ``wait``, ``reload`` and ``rollback`` print: what became of each page."""

from __future__ import annotations

from pathlib import Path

from tqserver.cli.failures import lines_of
from tqserver.cli.output import DIM, GOOD, STRONG, Cell, Output, duration
from tqserver.model.errors import ExitCode
from tqserver.model.status import Outcomes


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
        assert page.failure is not None
        for line in lines_of(page.failure, root, page.route, page.revision):
            output.line(*line)
        output.block(page.failure.output)
    if not each or len(outcomes.pages) != 1:
        pages = "1 page is" if len(fine) == 1 else f"{len(fine)} pages are"
        broken = f", {len(failed)} failed" if failed else ""
        output.line(f"{pages} as on disk{broken}", Cell(f"  ({duration(outcomes.seconds)})", DIM))
    return code
