"""Which files changed, told as soon as their writers have finished, and not before.

A write that was closed, or a rename into place, is complete at that moment: it is told after
:data:`SETTLE_SECONDS` without a further one, so that the files of one checkout arrive together. A file that is
being written, or has vanished, is unfinished: it holds back what belongs to the same page until it settles or
``debounce_seconds`` pass (an editor that saves by two renames, a writer that never closes).

Directories are watched, not files: atomic saves replace files. Where inotify cannot be had, files are polled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Set
from pathlib import Path

from watchfiles import awatch

from tqserver.build.fingerprint import is_ignored
from tqserver.host import inotify
from tqserver.host.inotify import Inotify
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import HostError

SETTLE_SECONDS = 0.002
POLL_DELAY_MS = 300
_COMPLETE = inotify.CLOSE_WRITE | inotify.MOVED_TO
_GONE = inotify.DELETE | inotify.MOVED_FROM
_SELF = inotify.DELETE_SELF | inotify.MOVE_SELF
log = get_logger("watcher")


class Watcher:
    """Watches trees and single directories; calls ``on_change`` with the paths that changed.

    ``owner_of`` groups paths: what is unfinished holds back only what has the same owner.
    """

    def __init__(
        self,
        on_change: Callable[[frozenset[str]], None],
        owner_of: Callable[[str], str],
        debounce_seconds: float,
        tasks: TaskOwner,
    ) -> None:
        self._on_change = on_change
        self._owner_of = owner_of
        self._debounce_seconds = debounce_seconds
        self._tasks = tasks
        self._inotify: Inotify | None = None
        self._trees: set[str] = set()
        self._single: set[str] = set()
        self._complete: dict[str, float] = {}  # path -> when it was last completed (loop time)
        self._unfinished: dict[str, float] = {}  # path -> when it was last touched
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = asyncio.Event()
        self.polling = False

    def start(self, trees: Iterable[Path]) -> None:
        """Watch these trees from now on."""
        self._trees = {str(tree) for tree in trees}
        if os.environ.get("WATCHFILES_FORCE_POLLING"):
            self._poll("WATCHFILES_FORCE_POLLING is set")
            return
        try:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)
            for tree in self._trees:
                self._add_tree(tree)
        except HostError as error:
            self._close_inotify()
            self._poll(str(error))

    def also(self, files: Iterable[str]) -> None:
        """Watch the directories of these files too (modules and templates that a page has read)."""
        for directory in {os.path.dirname(file) for file in files}:
            if directory in self._single or any(_is_below(directory, tree) for tree in self._trees):
                continue
            self._single.add(directory)
            if self._inotify is None:
                continue  # the poll loop takes them up
            try:
                self._inotify.add(directory)
            except FileNotFoundError:
                self._single.discard(directory)
            except HostError as error:
                log.error("watcher.blind", directory=directory, error=error.message, remedy=error.remedy)

    async def quiet(self, owners: Set[str] | None) -> None:
        """Wait until nothing that belongs to these owners, or to nobody, is held back; None is everything.

        What was written before the call counts, told by the kernel or not. Where files are polled, nothing is held
        back and this says nothing.
        """
        if self._inotify is not None:
            self._read()
        while any(
            owners is None or self._owner_of(path) in {"", *owners} for path in (*self._complete, *self._unfinished)
        ):
            await self._flushed.wait()

    def close(self) -> None:
        """Stop watching."""
        self._close_inotify()
        if self._timer is not None:
            self._timer.cancel()

    def _close_inotify(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    # --- events -------------------------------------------------------------------------------------------

    def _add_tree(self, top: str) -> None:
        assert self._inotify is not None
        seen: set[str] = set()
        pending = [top]
        while pending:
            directory = pending.pop()
            real = os.path.realpath(directory)
            if real in seen:
                continue  # a symlink loop, or two links to one directory
            seen.add(real)
            try:
                self._inotify.add(directory)
                with os.scandir(directory) as entries:
                    pending += [e.path for e in entries if not is_ignored(e.name) and _is_directory(e)]
            except (FileNotFoundError, PermissionError):
                continue  # gone again; or unreadable, which discovery reports with its remedy

    def _read(self) -> None:
        assert self._inotify is not None
        now = asyncio.get_running_loop().time()
        for event in self._inotify.read():
            if event.mask & inotify.Q_OVERFLOW:
                log.warning("watcher.overflow", remedy="events were lost; all pages are compared with the disk")
                self._complete.update(dict.fromkeys(self._trees, now))
            elif not is_ignored(event.name):
                self._note(event, now)
        self._schedule(now)

    def _note(self, event: inotify.Event, now: float) -> None:
        path, mask = event.path, event.mask
        if mask & _SELF:
            self._finished(path, now, complete=False)
        elif mask & inotify.ISDIR and mask & (inotify.CREATE | inotify.MOVED_TO):
            self._add_tree_if_ours(path)
            self._finished(path, now, complete=True)
        elif mask & _COMPLETE:
            self._finished(path, now, complete=True)
        elif mask & _GONE:
            if mask & inotify.ISDIR and self._inotify is not None:
                self._forget_tree(path)
            self._finished(path, now, complete=False)
        else:  # created, being written, or its attributes changed
            self._unfinished[path] = now

    def _finished(self, path: str, now: float, *, complete: bool) -> None:
        if complete:
            self._unfinished.pop(path, None)
            self._complete[path] = now
        else:
            self._complete.pop(path, None)
            self._unfinished[path] = now

    def _add_tree_if_ours(self, path: str) -> None:
        if any(_is_below(path, tree) for tree in self._trees):
            self._add_tree(path)

    def _forget_tree(self, path: str) -> None:
        """A directory that was renamed keeps its watch under its old name: drop it and those below."""
        assert self._inotify is not None
        for directory in self._inotify.directories:
            if _is_below(directory, path):
                self._inotify.remove(directory)

    # --- settling -----------------------------------------------------------------------------------------

    def _schedule(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._complete:  # a burst is waited out, but never longer than the debounce
            completed = self._complete.values()
            due = min(max(completed) + SETTLE_SECONDS, min(completed) + self._debounce_seconds)
        elif self._unfinished:
            due = min(self._unfinished.values()) + self._debounce_seconds
        else:
            return
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        settled = {path for path, at in self._unfinished.items() if now - at >= self._debounce_seconds - 1e-4}
        for path in settled:
            del self._unfinished[path]
        held = {self._owner_of(path) for path in self._unfinished}
        ready = {path for path in self._complete if self._owner_of(path) not in held}
        for path in ready:
            del self._complete[path]
        if self._unfinished:
            wake = min(self._unfinished.values()) + self._debounce_seconds - now
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake), self._flush)
        if settled or ready:
            self._on_change(frozenset(settled | ready))
        self._flushed.set()
        self._flushed = asyncio.Event()

    # --- polling ------------------------------------------------------------------------------------------

    def _poll(self, why: str) -> None:
        self.polling = True
        log.warning("watcher.polling", reason=why, remedy=f"changes are seen within {POLL_DELAY_MS} ms")
        self._tasks.start(self._poll_for_ever(), name="watcher.poll")

    async def _poll_for_ever(self) -> None:
        while True:
            watched = frozenset(self._single)
            stop = asyncio.Event()
            async for changed in self._polled(watched, stop):
                self._on_change(changed)
                if watched != self._single:
                    stop.set()

    async def _polled(self, single: frozenset[str], stop: asyncio.Event) -> AsyncIterator[frozenset[str]]:
        paths = [*self._trees, *single]
        async for changes in awatch(
            *paths,
            watch_filter=lambda _, path: not is_ignored(os.path.basename(path)),
            force_polling=True,
            poll_delay_ms=POLL_DELAY_MS,
            stop_event=stop,
            ignore_permission_denied=True,
        ):
            yield frozenset(path for _, path in changes)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself
