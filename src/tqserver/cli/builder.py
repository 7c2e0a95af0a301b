"""Builds pages into the store as the server does, for ``tqserver build``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES
from tqserver.build.runtimes.base import Project
from tqserver.build.store import Store, store_directory
from tqserver.control.discovery import discover
from tqserver.control.journal import Journal
from tqserver.control.status import failure_of
from tqserver.host.log import configure
from tqserver.host.process import reaper
from tqserver.host.rundir import journal_file, make_directory
from tqserver.model.config import Config
from tqserver.model.errors import PageError
from tqserver.model.pages import Page, find, route_of
from tqserver.model.status import FailureStatus


@dataclass(frozen=True, slots=True)
class Built:
    """What became of one page. ``reused``: its artifact was there already."""

    name: str
    route: str
    digest: str = ""
    seconds: float = 0.0
    reused: bool = False
    failure: FailureStatus | None = None


def build(root: Path, config: Config, route: str) -> list[Built]:
    """Build a page (a route or a name; "" is all of them); return what became of each, by name.

    A running server is not disturbed: artifacts are published whole, and what it has is not touched. Raises
    :class:`~tqserver.model.errors.HostError` or :class:`NotFound`.
    """
    configure(quiet=True, file=None)
    found = discover(root / config.pages.directory)
    wrong = {problem.page: problem.error for problem in found.problems}
    names = {*found.pages, *wrong}
    chosen = {find(names, route)} if route else names
    results = [Built(name, route_of(name), failure=failure_of(wrong[name])) for name in chosen & wrong.keys()]
    pages = [found.pages[name] for name in sorted(chosen - wrong.keys())]
    return sorted([*results, *asyncio.run(_build(root, config, pages))], key=lambda built: built.name)


async def _build(root: Path, config: Config, pages: Iterable[Page]) -> list[Built]:
    store = Store(store_directory(root, config.workers.temp_dir, make_directory(root)))
    project = Project(root, config.mode)
    pipeline = Pipeline(store, RUNTIMES, project, os.cpu_count() or 1, float(config.workers.build_timeout_seconds))
    journal = Journal(journal_file(root))
    reaper().install()
    try:
        return [await _one(pipeline, journal, page) for page in pages]  # one after the other: a compiler uses all cores
    finally:
        reaper().close()


async def _one(pipeline: Pipeline, journal: Journal, page: Page) -> Built:
    try:
        source = await pipeline.read(page, sorted(map(Path, journal.of(page.name).files)))
        artifact = await pipeline.build(page, source)
    except PageError as error:
        return Built(page.name, page.route, failure=failure_of(error))
    except Unsettled as error:
        return Built(page.name, page.route, failure=FailureStatus(str(error), remedy="build it again"))
    return Built(page.name, page.route, artifact.digest, artifact.seconds, artifact.reused)
