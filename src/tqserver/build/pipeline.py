"""A page in, an artifact out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.contents import Content, read_contents
from tqserver.build.files import Unfinished, Unsettled
from tqserver.build.fingerprint import digest_of
from tqserver.build.runtimes.base import Inputs, Job, Project, Runtime
from tqserver.build.store import Store
from tqserver.host import clock
from tqserver.model.errors import BuildError, Location, PageError
from tqserver.model.pages import Page


@dataclass(frozen=True, slots=True)
class Source:
    """What was on disk at one moment: the inputs, what is in them and the digest of all of it.

    ``outside`` are the paths beyond the page's directory whose change may change the digest: files, directories in
    which a new file would count, and either that is not there yet.
    """

    digest: str
    inputs: Inputs
    contents: Mapping[Path, Content]
    shared: tuple[Path, ...]
    outside: frozenset[str]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A result in the store. ``reused``: it was there already."""

    digest: str
    path: Path
    seconds: float
    reused: bool


class Pipeline:
    """Reads pages and builds them; at most ``concurrency`` builds that run commands at once."""

    def __init__(
        self,
        store: Store,
        runtimes: Mapping[str, Runtime],
        project: Project,
        concurrency: int,
        time_limit_seconds: float,
    ) -> None:
        self._store = store
        self._runtimes = runtimes
        self._project = project
        self._slots = asyncio.Semaphore(concurrency)
        self._time_limit_seconds = time_limit_seconds

    def configure(self, project: Project, time_limit_seconds: float) -> None:
        """Build by these from now on."""
        self._project = project
        self._time_limit_seconds = time_limit_seconds

    async def read(self, page: Page, shared: Sequence[Path]) -> Source:
        """Return what is on disk now; ``shared`` files that are gone do not count.

        Raises :class:`~tqserver.model.errors.PageError`, :class:`Unsettled` if files vanish meanwhile, or
        :class:`Unfinished` if the entry file is empty.
        """
        present = tuple(file for file in shared if os.path.isfile(file))
        inputs = self._runtimes[page.runtime].inputs(page, self._project, present)
        contents = await read_contents(inputs.files)
        _check_entry(Path(page.directory, page.entry), contents)
        outside = _outside(page, (*inputs.files, *inputs.watched, *shared))
        return Source(digest_of(page, self._project, inputs, contents), inputs, contents, tuple(shared), outside)

    async def build(self, page: Page, source: Source) -> Artifact:
        """Return the artifact of this source, building it if it is not there.

        Raises :class:`~tqserver.model.errors.BuildError`, or :class:`Unsettled` if a compiler, which reads
        the disk itself, may have seen something else than the digest says.
        """
        begun = clock.monotonic()
        path = self._store.path_of(source.digest)
        if self._store.has(source.digest):
            return Artifact(source.digest, path, 0.0, reused=True)
        try:
            await self._make(page, source)
        except OSError as error:
            raise BuildError(
                f"the artifact cannot be written to {path.parent.parent}: {error.strerror}",
                remedy="free or repair that disk, or set workers.temp_dir to a directory of another; then save again",
            ) from error
        return Artifact(source.digest, path, clock.monotonic() - begun, reused=False)

    async def _make(self, page: Page, source: Source) -> None:
        """Build it in a scratch directory and publish it. Raises OSError, besides what :meth:`build` does."""
        runtime = self._runtimes[page.runtime]
        with self._store.scratch() as scratch:
            output = scratch / "artifact"
            output.mkdir(mode=0o700)
            (scratch / "work").mkdir()
            job = Job(
                page,
                self._project,
                source.inputs,
                source.contents,
                output,
                scratch / "work",
                self._time_limit_seconds,
            )
            if runtime.runs_commands:
                async with self._slots:
                    await runtime.build(job)
                if (await self.read(page, source.shared)).digest != source.digest:
                    raise Unsettled(f"{page.name} changed while it was built")
            else:
                await runtime.build(job)
            self._store.publish(output, source.digest)


def _outside(page: Page, paths: Iterable[Path]) -> frozenset[str]:
    """Return the paths beyond the page's directory, and the directories that would have to appear above them."""
    below = page.directory + "/"
    outside = {text for text in map(str, paths) if not text.startswith(below)}
    missing: set[str] = set()
    for directory in {os.path.dirname(path) for path in outside}:
        above = directory
        while above not in missing and not os.path.isdir(above):
            missing.add(above)
            above = os.path.dirname(above)
    return frozenset(outside | missing)


def _check_entry(entry: Path, contents: Mapping[Path, Content]) -> None:
    place = Location(str(entry))
    if entry in contents and contents[entry].size:
        return
    if entry in contents:  # an editor that saves in place has just truncated it
        raise Unfinished(
            PageError("the entry file is empty", remedy="write the page's code into it, or remove it", location=place)
        )
    if not os.path.lexists(entry):  # an editor replaces it just now, or the page ends
        raise Unsettled(f"{entry} has vanished")
    raise PageError("the entry file is no regular file", remedy="replace it", location=place)
