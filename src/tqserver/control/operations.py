"""What the admin API has a running server do: settle, reload, roll back. Reading is ``status``.

*Settled* means that what is on disk at the time of the question, or newer, has been brought to its end: it answers
in every proxy, or it has failed. It does not rest on the watcher having noticed a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set

from tqserver.control.discovery import Discovery, discover
from tqserver.control.revisions import chosen
from tqserver.control.running import Running
from tqserver.control.status import outcome, outcome_of_rollback
from tqserver.host import clock
from tqserver.model.errors import HostError, NotFound, TimedOut
from tqserver.model.lifecycle import PageState
from tqserver.model.pages import find
from tqserver.model.status import Outcomes

_UNDER_WAY = frozenset({PageState.NEW, PageState.BUILDING, PageState.UPDATING})


class Operations:
    """Acts on the server that ``running`` returns."""

    def __init__(self, running: Callable[[], Running]) -> None:
        self._running = running

    async def wait(self, given: str, timeout_seconds: float | None) -> Outcomes:
        """Return when a page (a route or a name; "" is all of them) has settled.

        Raises :class:`~tqserver.model.errors.NotFound`, :class:`TimedOut`, or :class:`HostError` if the pages
        cannot be read.
        """
        begun = clock.monotonic()
        names: list[str] = []
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._see_the_disk(given)
                names = self._chosen(given)
                await self._settle(names)
        except TimeoutError:
            raise self._late(timeout_seconds or 0.0, names) from None
        return self._outcomes(names, begun)

    async def reload(self, given: str) -> Outcomes:
        """Make a new revision of a page, or of all, from what is on disk, changed or not; return when it has settled.

        Raises as :meth:`wait`.
        """
        begun = clock.monotonic()
        await self._see_the_disk(given)
        names = self._chosen(given)
        for name in names:
            if (reconciler := self._running().site.reconcilers.get(name)) is not None:
                reconciler.reload()
        await self._settle(names)
        return self._outcomes(names, begun)

    async def rollback(self, given: str, number: int | None) -> Outcomes:
        """Bring back a revision of one page, by default the one before the live one; return when it is live.

        Raises :class:`~tqserver.model.errors.NotFound`; :class:`PageError` if it does not start, and what was live
        stays; :class:`HostError` if its artifact is gone.
        """
        begun, running = clock.monotonic(), self._running()
        _refuse_at_the_end(running)
        name = find(self._names(), given)
        reconciler = running.site.reconcilers.get(name)
        if reconciler is None:  # nothing of it was ever served by this server: discovery says why
            raise next(problem.error for problem in running.site.found.problems if problem.page == name)
        recent, route = running.journal.of(name).recent, reconciler.page.route
        revision = chosen(recent, recent[-1] if recent and reconciler.live is not None else None, number, route)
        if not running.agent.has(revision.digest):
            raise HostError(
                f"the artifact of revision {revision.number} is no longer in the store",
                remedy=f"tqserver revisions {route} lists those that are kept",
            )
        await reconciler.roll_back(revision)
        return Outcomes([outcome_of_rollback(self._running(), name)], clock.monotonic() - begun)

    # --- the steps ----------------------------------------------------------------------------------------

    async def _see_the_disk(self, given: str) -> None:
        """Follow the pages that are there now.

        First what the watcher holds back, since it knows of saves that are half done. Then a look of our own: what
        differs is looked at again after the same quiet time, as an editor may be between two renames.
        """
        running = self._running()
        await running.watcher.quiet(self._owners(given))
        pages = running.project / running.config.pages.directory
        if not _is_same(discover(pages), self._running().site.found):
            await asyncio.sleep(running.config.file_watcher.debounce_ms / 1000)
            running.site.rediscover()

    def _owners(self, given: str) -> Set[str] | None:
        """Return whose changes to wait for: one that is not known yet may be anybody's."""
        try:
            return {find(self._names(), given)} if given else None
        except NotFound:
            return None

    def _names(self) -> Set[str]:
        running = self._running()
        return {*running.site.reconcilers, *(problem.page for problem in running.site.found.problems)}

    def _chosen(self, given: str) -> list[str]:
        return [find(self._names(), given)] if given else sorted(self._names())

    async def _settle(self, names: Iterable[str]) -> None:
        running = self._running()
        _refuse_at_the_end(running)
        followed = [reconciler for name in names if (reconciler := running.site.reconcilers.get(name)) is not None]
        for rest in [reconciler.settling() for reconciler in followed]:
            await rest.wait()
        _refuse_at_the_end(running)
        await running.publisher.acknowledged(running.publisher.version)

    def _outcomes(self, names: Iterable[str], begun: float) -> Outcomes:
        running = self._running()
        return Outcomes([outcome(running, name) for name in names], clock.monotonic() - begun)

    def _late(self, timeout_seconds: float, names: Iterable[str]) -> TimedOut:
        states = {name: reconciler.state for name, reconciler in self._running().site.reconcilers.items()}
        under_way = [f"{name} is {states[name].value}" for name in names if states.get(name) in _UNDER_WAY]
        text = f": {', '.join(under_way[:5])}" if under_way else ""
        return TimedOut(f"not settled within {timeout_seconds:g} s{text}", remedy="give it longer with --timeout")


def _refuse_at_the_end(running: Running) -> None:
    """A server that ends, or hands over to a new one, brings nothing to its end any more."""
    if not running.site.is_following:
        raise HostError("the server stops, or hands over to a new one", remedy="ask again in a moment")


def _is_same(one: Discovery, other: Discovery) -> bool:
    def said(found: Discovery) -> list[tuple[str, str]]:
        return [(problem.page, str(problem.error)) for problem in found.problems]

    return one.pages == other.pages and said(one) == said(other)
