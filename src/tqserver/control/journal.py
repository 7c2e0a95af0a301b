"""What is remembered of pages across restarts: revisions, and what their workers were seen to load.

Numbers never repeat, so a log line names one revision for ever. The artifacts of the last revisions stay. Modules and
files are hints: without them the first start of a page is slower, nothing else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqserver.control.revisions import Revision, with_newest
from tqserver.host.log import get_logger
from tqserver.wire.codec import WireError, from_json, to_json

SAVE_AFTER_SECONDS = 1.0
log = get_logger("journal")


@dataclass(slots=True)
class Memory:
    """What is known of one page.

    ``recent`` are its last revisions that went live, newest last. ``set_aside`` is the digest of those files of the
    page in whose place the last of them serves, by a rollback; "" if there was none.
    """

    revision: int = 0
    modules: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    recent: tuple[Revision, ...] = ()
    set_aside: str = ""


class Journal:
    """The memory of all pages, kept in one small file that is replaced whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pages: dict[str, Memory] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._load()

    def _load(self) -> None:
        try:
            stored = from_json(self._file.read_bytes())
            for name, page in stored["pages"].items():
                self._pages[name] = Memory(
                    int(page["revision"]),
                    tuple(page["modules"]),
                    frozenset(page["files"]),
                    tuple(map(_revision, page.get("recent", ()))),
                    str(page.get("set_aside", "")),
                )
        except FileNotFoundError:
            return
        except (OSError, WireError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("journal.unreadable", file=str(self._file), error=str(error), remedy="begun anew")
            self._pages.clear()

    def of(self, page: str) -> Memory:
        """Return the memory of a page; change it, then call :meth:`changed`."""
        return self._pages.setdefault(page, Memory())

    def next_revision(self, page: str) -> int:
        """Return a number that no revision of this page has had."""
        memory = self.of(page)
        memory.revision += 1
        self.changed()
        return memory.revision

    def went_live(self, page: str, revision: Revision) -> None:
        """Remember a revision, and with it the artifact."""
        memory = self.of(page)
        memory.recent = with_newest(memory.recent, revision)
        self.changed()

    def renamed(self, page: str, before: str, after: str) -> None:
        """Files that were known by one digest are known by another from now on."""
        memory = self.of(page)
        memory.recent = tuple(
            replace(revision, content=after) if revision.content == before else revision for revision in memory.recent
        )
        self.changed()

    def digests(self) -> set[str]:
        """Return the artifacts of the last revisions of all pages."""
        return {revision.digest for memory in self._pages.values() for revision in memory.recent}

    def release_all_but(self, pages: Set[str]) -> None:
        """Let go of the artifacts of pages that are no more; their numbers are remembered."""
        for name in self._pages.keys() - pages:
            self._pages[name].recent, self._pages[name].set_aside = (), ""

    def changed(self) -> None:
        """Write the file soon: a storm of reloads writes it once."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_AFTER_SECONDS, self.save)

    def save(self) -> None:
        """Write the file now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pages = {
            name: {
                "revision": m.revision,
                "modules": list(m.modules),
                "files": sorted(m.files),
                "recent": list(m.recent),
                "set_aside": m.set_aside,
            }
            for name, m in self._pages.items()
        }
        scratch = self._file.with_suffix(".new")
        try:
            scratch.write_bytes(to_json({"pages": pages}))
            os.replace(scratch, self._file)
        except OSError as error:
            log.warning("journal.unwritable", file=str(self._file), error=str(error))


def _revision(stored: Any) -> Revision:
    """Return a revision as it was written, or as earlier versions wrote it: its number and its artifact."""
    return Revision(**stored) if isinstance(stored, dict) else Revision(int(stored[0]), str(stored[1]))
