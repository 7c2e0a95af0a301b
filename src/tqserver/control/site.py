"""The pages of a project: found, followed by a reconciler each, let go when they vanish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tqserver.control.discovery import Discovery, Problem, discover
from tqserver.control.load import Loads, PageLoad
from tqserver.control.on_disk import UNFINISHED_SECONDS
from tqserver.control.plan import Readers, difference, needs_discovery, pages_concerned
from tqserver.control.reconciler import Reconciler
from tqserver.control.rows import as_failure
from tqserver.control.services import Services
from tqserver.control.watcher import Watcher
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import HostError, PageError, RouteConflict
from tqserver.model.pages import Page, route_of
from tqserver.model.routing import Pattern
from tqserver.wire.messages import RouteEntry

log = get_logger("site")


class Site:
    """Keeps what is followed equal to what the pages directory holds.

    ``services`` are given before :meth:`begin`; they call back :meth:`watch_also`.
    """

    services: Services

    def __init__(self, directory: Path, watcher: Watcher, tasks: TaskOwner) -> None:
        self._directory = directory
        self._watcher = watcher
        self._tasks = tasks
        self.found = Discovery()
        self._is_missing = False  # the pages directory
        self._following: dict[str, asyncio.Task[None]] = {}
        self._readers = Readers()
        self._believed: dict[str, bool] = {}  # empty directories, and whether each counts as one that is being filled
        self._reported: set[tuple[str, str]] = set()
        self._broken_rows: set[str] = set()  # pages that were never followed, whose row says why
        self.reconcilers: dict[str, Reconciler] = {}
        self.is_following = True  # False once the server ends or hands over

    # --- found --------------------------------------------------------------------------------------------

    def take(self, found: Discovery) -> None:
        """Make what a scan found the pages that are followed."""
        if self._is_missing:
            self._is_missing = False
            log.info("pages.restored", directory=str(self._directory))
        broken = {problem.page for problem in found.problems}
        self.found = Discovery(found.pages, self._believing(found.problems))
        for problem in self.found.problems:
            self._report(problem)
        known = {name: reconciler.page for name, reconciler in self.reconcilers.items()}
        wanted = {name: page for name, page in found.pages.items() if name not in broken}
        change = difference(known, wanted)
        for name in self._broken_rows - broken:
            self.services.publisher.remove_row(name)
        self._broken_rows &= broken
        for name in change.vanished:
            if name not in broken:
                self._let_go(name)
        for page in change.altered:
            self.reconcilers[page.name].notify(page)
        for page in change.appeared:
            self._follow(page)

    def _believing(self, problems: Sequence[Problem]) -> list[Problem]:
        """Leave out the directories that are about to be filled: for a moment after they were seen."""
        unfinished = {problem.page for problem in problems if problem.is_unfinished}
        self._believed = {page: is_new for page, is_new in self._believed.items() if page in unfinished}
        for page in unfinished - self._believed.keys():
            self._believed[page] = True
            self._tasks.start(self._doubt(page), name=f"unfinished.{page}")
        return [problem for problem in problems if not self._believed.get(problem.page)]

    async def _doubt(self, page: str) -> None:
        await asyncio.sleep(UNFINISHED_SECONDS)
        if page in self._believed and self.is_following:
            self._believed[page] = False
            self.rediscover()

    def _report(self, problem: Problem) -> None:
        key = (problem.page, str(problem.error))
        if key in self._reported:
            return
        self._reported.add(key)
        error = problem.error
        event = "route.conflict" if isinstance(error, RouteConflict) else "page.failed"
        reconciler = self.reconcilers.get(problem.page)
        if reconciler is not None and not isinstance(error, RouteConflict):
            reconciler.report(error)
            return
        log.error(
            event,
            page=problem.page,
            error=error.message,
            remedy=error.remedy,
            where=str(error.location or ""),
        )
        if not isinstance(error, RouteConflict):
            self._show_broken(problem)

    def _show_broken(self, problem: Problem) -> None:
        """Let the page's URL say what is wrong, if it is one and no other page has it."""
        try:
            shape = Pattern.parse(route_of(problem.page)).shape
        except PageError:
            return
        if any(Pattern.parse(page.route).shape == shape for page in self.found.pages.values()):
            return
        failure = as_failure(problem.error)
        self._broken_rows.add(problem.page)
        self.services.publisher.set_row(RouteEntry(route_of(problem.page), problem.page, 0, failure=failure))

    def _follow(self, page: Page) -> None:
        log.info("page.found", page=page.name, route=page.route, runtime=page.runtime)
        reconciler = Reconciler(page, self.services)
        self.reconcilers[page.name] = reconciler
        self._following[page.name] = self._tasks.start(reconciler.run(), name=f"page.{page.name}")

    def _let_go(self, name: str) -> None:
        """Out of the table at once: another page may have its route in the same turn."""
        reconciler = self.reconcilers.pop(name)
        reconciler.depart()
        self._tasks.start(self._leave(reconciler, self._following.pop(name)), name=f"leave.{name}")

    async def _leave(self, reconciler: Reconciler, following: asyncio.Task[None]) -> None:
        following.cancel()
        await asyncio.wait({following})
        if reconciler.page.name not in self.reconcilers:  # it may have come back
            self._readers.replace(reconciler.page.name, frozenset())
        log.info("page.gone", page=reconciler.page.name)
        await reconciler.leave()

    # --- changed ------------------------------------------------------------------------------------------

    def changed(self, paths: Collection[str]) -> None:
        """These paths changed: see which pages that concerns, or makes, or ends."""
        pages = [reconciler.page for reconciler in self.reconcilers.values()]
        inside = [path for path in paths if Path(path).is_relative_to(self._directory)]
        if any(needs_discovery(path, pages, exists=os.path.isfile(path)) for path in inside):
            self.rediscover()
        pages = [reconciler.page for reconciler in self.reconcilers.values()]
        for path in paths:
            for name in pages_concerned(path, pages, self._readers.by_path):
                if name in self.reconcilers:
                    self.reconcilers[name].notify()

    def rediscover(self) -> None:
        """Scan the pages, and follow what is found."""
        try:
            found = discover(self._directory)
        except HostError as error:
            if not self._is_missing:
                log.error("pages.missing", error=error.message, remedy=error.remedy)
            self._is_missing = True
            return
        self._reported &= {(problem.page, str(problem.error)) for problem in found.problems}
        self.take(found)

    def owner_of(self, path: str) -> str:
        """Group paths by page: what is being written holds back only what belongs with it."""
        pages = [reconciler.page for reconciler in self.reconcilers.values()]
        return next(iter(sorted(pages_concerned(path, pages, self._readers.by_path))), "")

    def watch_also(self, page: str, paths: frozenset[str]) -> bool:
        """Watch what a page reads outside, and no longer what it does not; tell whether a watch is new."""
        self._readers.replace(page, paths)
        return self._watcher.also(paths)

    def reconfigured(self, directory: Path, found: Discovery) -> None:
        """The configuration was replaced, and with it perhaps the place of the pages."""
        if directory != self._directory:
            self._directory = directory
            self._watcher.watch_instead([directory])
        self.take(found)
        for reconciler in self.reconcilers.values():
            reconciler.reconfigured()

    # --- load ---------------------------------------------------------------------------------------------

    def demand(self, page: str) -> None:
        """Requests wait for a page, or all its workers have enough to do."""
        if page in self.reconcilers:
            self.reconcilers[page].demand()

    def refused(self, worker: int) -> None:
        """A proxy could not reach a worker, or got no answer from it."""
        for reconciler in self.reconcilers.values():
            if reconciler.live is not None:
                reconciler.live.refused(worker)

    def observe(self, news: Mapping[str, PageLoad], loads: Loads) -> None:
        """Proxies have counted."""
        for name, load in news.items():
            reconciler = self.reconcilers.get(name)
            if reconciler is not None and reconciler.live is not None:
                reconciler.live.observe(load, loads.workers([w.number for w in reconciler.live.ready]))

    # --- the end ------------------------------------------------------------------------------------------

    async def stop_following(self) -> None:
        """Let no change go live any more."""
        self.is_following = False
        for task in self._following.values():
            task.cancel()
        if self._following:
            await asyncio.wait(self._following.values())

    def follow_again(self) -> None:
        """After all: follow changes, and those that were missed."""
        self.is_following = True
        for name, reconciler in self.reconcilers.items():
            self._following[name] = self._tasks.start(reconciler.run(), name=f"page.{name}")

    async def settled(self) -> None:
        """Wait until of every page that was found the first attempt has come to its end, good or bad."""
        for reconciler in list(self.reconcilers.values()):
            await reconciler.first_attempt.wait()

    def starting(self) -> list[str]:
        """Return the pages whose first attempt is under way."""
        return [name for name, reconciler in self.reconcilers.items() if not reconciler.first_attempt.is_set()]

    def broken(self) -> list[str]:
        """Return the pages that nothing answers, whose first attempt has come to its end or that have none."""
        tried = {name for name, reconciler in self.reconcilers.items() if reconciler.first_attempt.is_set()}
        silent = {name for name in tried if self.reconcilers[name].live is None}
        return sorted(silent | {problem.page for problem in self.found.problems} - self.reconcilers.keys())

    async def stop(self) -> None:
        """End the workers of all pages."""
        stops = [
            self._tasks.start(reconciler.live.stop(), name="stop.page")
            for reconciler in self.reconcilers.values()
            if reconciler.live is not None
        ]
        if stops:
            await asyncio.wait(stops)

    def retire(self) -> None:
        """Replace no worker that ends from now on."""
        for reconciler in self.reconcilers.values():
            if reconciler.live is not None:
                reconciler.live.retire()
