"""A page in, an artifact out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.build.conftest import PageOf, Write
from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Artifact, Pipeline
from tqserver.build.runtimes.base import Inputs, Job, Launch, Project, Requirement
from tqserver.build.store import Store
from tqserver.model.errors import BuildError
from tqserver.model.pages import Page


class Compiler:
    """A runtime whose build waits until the test lets it go on."""

    name = "compiler"

    def __init__(self, *, runs_commands: bool) -> None:
        self.runs_commands = runs_commands
        self.running = 0
        self.most = 0
        self.go_on = asyncio.Event()
        self.meanwhile: Callable[[], object] = lambda: None
        self.error: BuildError | None = None

    def detect(self, directory: Path, files: frozenset[str]) -> str | None:
        return None

    def inputs(self, page: Page, project: Project, shared: object) -> Inputs:
        return Inputs([Path(page.directory, page.entry)])

    async def build(self, job: Job) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go_on.wait()
        self.meanwhile()
        self.running -= 1
        if self.error is not None:
            raise self.error
        for file, content in job.contents.items():
            (job.output / file.name).write_bytes(content.held or b"")

    def launch(self, page: Page, artifact: Path) -> Launch:
        return Launch()

    def requirement(self) -> Requirement:
        return Requirement(self.name, "")


async def turns(count: int = 20) -> None:
    """Let every task run as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


def pages(write: Write, root: Path, count: int) -> list[Page]:
    for number in range(count):
        write(f"pages/{number}/in", str(number))
    return [Page(str(number), str(root / "pages" / str(number)), "compiler", "in") for number in range(count)]


def pipeline_of(compiler: Compiler, store: Store, project: Project) -> Pipeline:
    return Pipeline(store, {"compiler": compiler}, project, concurrency=2, time_limit_seconds=1)


async def builds(pipeline: Pipeline, found: list[Page]) -> Awaitable[list[Artifact]]:
    started = [asyncio.create_task(pipeline.build(page, await pipeline.read(page, []))) for page in found]
    await turns()
    return asyncio.gather(*started)


async def test_commands_are_bounded_in_number(write: Write, root: Path, store: Store, project: Project) -> None:
    compiler = Compiler(runs_commands=True)
    done = await builds(pipeline_of(compiler, store, project), pages(write, root, 5))
    assert compiler.running == 2
    compiler.go_on.set()
    await done
    assert compiler.most == 2


async def test_copies_do_not_wait_behind_commands(write: Write, root: Path, store: Store, project: Project) -> None:
    compiler = Compiler(runs_commands=False)
    done = await builds(pipeline_of(compiler, store, project), pages(write, root, 5))
    assert compiler.running == 5
    compiler.go_on.set()
    await done


async def test_what_was_built_is_reused(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/a/main.py", "x = 1")
    page = page_of("a")
    first = await pipeline.build(page, source := await pipeline.read(page, []))
    write("pages/a/main.py", "x = 2")
    second = await pipeline.build(page, await pipeline.read(page, []))
    again = await pipeline.build(page, source)
    assert (first.reused, second.reused, again.reused) == (False, False, True)
    assert again.path == first.path != second.path


async def test_two_equal_builds_at_once_do_not_clash(write: Write, root: Path, store: Store, project: Project) -> None:
    compiler = Compiler(runs_commands=True)
    page = pages(write, root, 1)[0]
    done = await builds(pipeline_of(compiler, store, project), [page, page])
    compiler.go_on.set()
    one, two = await done
    assert one.path == two.path and (one.path / "in").read_text() == "0"


async def test_what_changes_during_a_build_is_never_published_under_the_old_name(
    write: Write, root: Path, store: Store, project: Project
) -> None:
    compiler = Compiler(runs_commands=True)
    page = pages(write, root, 1)[0]
    compiler.meanwhile = lambda: write("pages/0/in", "newer")
    pipeline = pipeline_of(compiler, store, project)
    source = await pipeline.read(page, [])
    compiler.go_on.set()
    with pytest.raises(Unsettled):
        await pipeline.build(page, source)
    assert not store.has(source.digest)


async def test_a_failed_build_gives_its_slot_back(write: Write, root: Path, store: Store, project: Project) -> None:
    compiler = Compiler(runs_commands=True)
    compiler.error = BuildError("no")
    compiler.go_on.set()
    pipeline = pipeline_of(compiler, store, project)
    for page in pages(write, root, 5):
        with pytest.raises(BuildError):
            await pipeline.build(page, await pipeline.read(page, []))
    assert [path.name for path in (store.path_of("00").parents[1]).iterdir()] == []
