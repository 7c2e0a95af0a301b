"""Python pages: the artifact is a copy of the page's files, from which workers load the code.

A revision so stays what it was, whatever happens to the files afterwards (``docs/decisions/0003``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tqserver import __version__
from tqserver.build.contents import copy_contents
from tqserver.build.files import page_files
from tqserver.build.runtimes.base import Inputs, Job, Launch, Project, Requirement, Runtime
from tqserver.model.pages import Page

ENTRY = "main.py"


class PythonRuntime:
    """``main.py``: functions, an ASGI app or a WSGI app."""

    name = "python"
    runs_commands = False

    def detect(self, directory: Path, files: frozenset[str]) -> str | None:
        """A directory with ``main.py`` is a Python page."""
        return ENTRY if ENTRY in files else None

    def inputs(self, page: Page, project: Project, shared: Sequence[Path]) -> Inputs:
        """The page's files and those that its workers were seen to read."""
        facts = {"python": sys.version, "tqserver": __version__}
        return Inputs([*page_files(page), *shared], facts)

    async def build(self, job: Job) -> None:
        """Copy the page's files, with the bytes that the digest saw."""
        await copy_contents(job.contents, Path(job.page.directory), job.output)

    def launch(self, page: Page, artifact: Path) -> Launch:
        """Forked from a zygote."""
        return Launch()

    def requirement(self) -> Requirement:
        """The interpreter that runs this."""
        return Requirement(self.name, sys.version.split()[0])


RUNTIME: Runtime = PythonRuntime()
