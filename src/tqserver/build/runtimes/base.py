"""What a runtime is: the adapter between a language and the server.

A runtime answers five questions, none of which knows about the others' state: is this directory mine
(``detect``), what can change the result (``inputs``), how is it made (``build``), how is it started
(``launch``), what must the machine have (``requirement``). Adding a language is one file in this package: it
defines a class and ends with ``RUNTIME: Runtime = ...``, by which ``build/registry.py`` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tqserver.build.contents import Content
from tqserver.model.pages import Page


@dataclass(frozen=True, slots=True)
class Project:
    """Where a build happens. ``root`` is absolute; ``mode`` is "dev" or "prod"."""

    root: Path
    mode: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that can change the result of a build.

    ``files`` are absolute paths, in a stable order; ``facts`` is everything else (toolchain version, flags,
    target), by name. ``watched`` are paths outside the page that would become inputs: a directory in which
    a new file would count, a file that is not there yet.
    """

    files: Sequence[Path]
    facts: Mapping[str, str] = field(default_factory=dict)
    watched: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One build. ``output`` is an empty directory that becomes the artifact; ``scratch`` is thrown away.

    ``contents`` are those of every input file as the digest saw them: a runtime that copies takes these,
    so that an artifact is exactly what its name says.
    """

    page: Page
    project: Project
    inputs: Inputs
    contents: Mapping[Path, Content]
    output: Path
    scratch: Path
    time_limit_seconds: float


@dataclass(frozen=True, slots=True)
class Launch:
    """How a worker of an artifact is started.

    ``argv`` empty: forked from a Python zygote. ``needs_port``: it may listen on ``PORT``, so one is
    allocated; ``environment`` is added to the worker's.
    """

    argv: tuple[str, ...] = ()
    needs_port: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the machine must have. ``remedy`` is empty when it is there."""

    name: str
    found: str
    remedy: str = ""


class Runtime(Protocol):
    """One language."""

    name: str
    runs_commands: bool  # its builds are bounded in number, and read the disk themselves

    def detect(self, directory: Path, files: frozenset[str]) -> str | None:
        """Return the entry file if a directory with these file names is a page of this language."""
        ...

    def inputs(self, page: Page, project: Project, shared: Sequence[Path]) -> Inputs:
        """Return what the artifact depends on.

        ``shared`` are project files outside the page that its last worker read. Raises
        :class:`~tqserver.model.errors.ToolchainMissing` if that cannot be told without a toolchain.
        """
        ...

    async def build(self, job: Job) -> None:
        """Fill ``job.output``. Raises :class:`~tqserver.model.errors.BuildError`."""
        ...

    def launch(self, page: Page, artifact: Path) -> Launch:
        """Tell how to start a worker of this artifact."""
        ...

    def requirement(self) -> Requirement:
        """Tell what the machine must have and whether it has it."""
        ...
