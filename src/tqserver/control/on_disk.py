"""What is on disk of one page, and what else it reads.

Files are read when they rest: one that is being written, or a tree that comes and goes, is looked at again. What a
page reads outside its directory is watched before it is read, so that no change of it is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from tqserver.build.files import Unfinished, Unsettled
from tqserver.build.fingerprint import own_digest
from tqserver.build.pipeline import Source
from tqserver.control.services import Services
from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.model.pages import Page

UNFINISHED_SECONDS = 1.0  # for so long an empty entry file, or directory, counts as one that is being filled
MOST_FILES_OUTSIDE = 5000  # each is read at each look at the page
log = get_logger("on_disk")


class OnDisk:
    """Reads the files of a page. ``page`` is replaced when its description changes."""

    def __init__(self, page: Page, services: Services) -> None:
        self.page = page
        self._services = services
        self._shared = frozenset(sorted(services.journal.of(page.name).files)[:MOST_FILES_OUTSIDE])
        self._has_said_too_many = False
        self._naming = asyncio.Lock()  # held while it is found out by which digest a content is known

    async def read(self, disturbed: asyncio.Event) -> Source:
        """Return what is on disk now, waiting until its writer has finished; a change sets ``disturbed``.

        Raises :class:`~tqserver.model.errors.PageError` if it is no page.
        """
        believed_at = clock.monotonic() + UNFINISHED_SECONDS
        while True:
            try:
                return await self._look(self._shared)
            except Unfinished as unfinished:
                if clock.monotonic() >= believed_at:
                    raise unfinished.error from None
                await _change_until(disturbed, believed_at)
            except Unsettled:
                await self.quiet()  # files come and go: look again when they rest

    async def quiet(self) -> None:
        """Wait for as long as files must not change to count as written."""
        await asyncio.sleep(self._services.config.file_watcher.debounce_ms / 1000)

    async def confirm(self, source: Source) -> str:
        """Return the digest by which this content is known from now on.

        A worker may have reported files that it reads beside the page's own since it was read; they count. Raises
        :class:`~tqserver.build.files.Unsettled` if something else is on disk by now, or PageError.
        """
        read = self._services.pipeline.read
        async with self._naming:
            digest = (await read(self.page, _sorted(self._shared))).digest
            if (await read(self.page, list(source.shared))).digest != source.digest:  # last: it speaks for both
                raise Unsettled(f"{self.page.name} changed while it was built")
        return digest

    def own_digest(self, source: Source | None) -> str:
        """Return what tells the page's own files from any other content of them, "" for no page."""
        return own_digest(self.page, source.contents) if source is not None else ""

    async def also_reads(self, files: Iterable[str]) -> tuple[str, str] | None:
        """A worker read project files beside the page's own: their change concerns the page too.

        Return by which digest what is on disk was known until now, and by which it is from now on; None if these
        files are known. Raises PageError or Unsettled if neither can be told now; the files count all the same.
        """
        async with self._naming:
            known = self._shared
            grown = known | self._countable(files)
            if grown == known:
                return None
            self._services.journal.of(self.page.name).files = grown
            self._services.journal.changed()
            try:
                return (await self._look(known)).digest, (await self._look(grown)).digest
            finally:
                self._shared = grown

    def _countable(self, files: Iterable[str]) -> frozenset[str]:
        """Return those of these files that there is room for."""
        new = [file for file in dict.fromkeys(files) if file not in self._shared]
        room = MOST_FILES_OUTSIDE - len(self._shared)
        if len(new) > room and not self._has_said_too_many:
            self._has_said_too_many = True
            log.error(
                "page.reads_too_much",
                page=self.page.name,
                error=f"it reads more than {MOST_FILES_OUTSIDE} project files outside its directory",
                remedy="a change of the further ones is not noticed: keep data out of the project, or reload the page",
            )
        return frozenset(new[:room])

    async def _look(self, shared: frozenset[str]) -> Source:
        """Return what is on disk; what it reads outside the page was watched before it was read."""
        while True:
            source = await self._services.pipeline.read(self.page, _sorted(shared))
            if not self._services.watch(self.page.name, source.outside):
                return source


def _sorted(files: Iterable[str]) -> list[Path]:
    return sorted(map(Path, files))


async def _change_until(disturbed: asyncio.Event, deadline: float) -> None:
    """Wait for the next change, but not for ever."""
    try:
        async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
            await disturbed.wait()
        disturbed.clear()
    except TimeoutError:
        return
