"""Which files changed: told by inotify, proved at start, and checked against the disk once a minute.

Events are fast, and not to be trusted alone: limits run out, queues overflow, and on shares others write without an
event. So the first event is provoked (:meth:`Watcher.start`), every :data:`Pace.audit_seconds` the disk is compared
with what was last seen of it, and where events cannot be had or do not tell all, that comparison is made every
:data:`Pace.poll_seconds` instead: polling is the audit, made often. Whatever is told here, the reconciler decides by
digest; telling too much starts nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from tqserver.control.scan import Signature, differences, is_edit, scan
from tqserver.control.settling import Settling
from tqserver.control.tree_events import TreeEvents
from tqserver.host import clock
from tqserver.host.inotify import Inotify
from tqserver.host.log import get_logger
from tqserver.host.mounts import shared_devices, shares_among
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import HostError

POLLING_VARIABLE = "WATCHFILES_FORCE_POLLING"  # the name that watchfiles, and with it uvicorn, has given it
POLLING_SHARE = 0.05  # of one core, at most: a tree that takes long to look at is looked at less often
_PATHS_NAMED = 5  # in a log line
log = get_logger("watcher")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look at the disk, and how long the probe's event may take."""

    audit_seconds: float = 60.0
    poll_seconds: float = 0.3
    probe_seconds: float = 2.0


class Watcher:
    """Watches trees, and single files and directories; calls ``on_change`` with the paths that changed.

    ``owner_of`` groups paths: what is unfinished holds back only what has the same owner. ``polling`` is why the
    disk is polled, empty if it is not. ``missed`` counts the changes that events did not tell.
    """

    def __init__(
        self,
        on_change: Callable[[frozenset[str]], None],
        owner_of: Callable[[str], str],
        debounce_seconds: float,
        tasks: TaskOwner,
        *,
        pace: Pace | None = None,
        open_inotify: Callable[[], Inotify] = Inotify,
        shares: Callable[[], Mapping[int, str]] = shared_devices,
    ) -> None:
        self._on_change = on_change
        self._debounce_seconds = debounce_seconds
        self._tasks = tasks
        self._pace = pace or Pace()
        self._open_inotify = open_inotify
        self._shares = shares
        self._settling = Settling(on_change, owner_of, debounce_seconds)
        self._trees: tuple[str, ...] = ()
        self._beside: set[str] = set()  # files and single directories that are watched beside the trees
        self._events: TreeEvents | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_seconds = 0.0  # what a look at the disk takes
        self._hurry = asyncio.Event()
        self._known: dict[str, Signature] = {}
        self._recent: set[str] = set()  # told by events since the last look began
        self._moving: frozenset[str] = frozenset()  # being written when last polled
        self.polling = ""
        self.missed = 0

    # --- start --------------------------------------------------------------------------------------------

    def start(self, trees: Iterable[Path]) -> None:
        """Watch these trees from now on. That events arrive is proved meanwhile."""
        self._trees = tuple(str(tree) for tree in trees)
        if os.environ.get(POLLING_VARIABLE):
            self._poll(f"{POLLING_VARIABLE} is set", "unset it to be told by inotify at once")
        else:
            self._listen()
        self._known = scan(self._trees, self._beside)  # after the watches: what comes between is told twice
        self._poll_shares()
        self._looking = self._tasks.start(self._look_for_ever(), name="watcher.look")

    def _listen(self) -> None:
        try:
            self._events = TreeEvents(self._open_inotify(), self._trees)
            asyncio.get_running_loop().add_reader(self._events.fileno(), self._read)
            self._events.start()
            self._events.probe()
        except HostError as error:
            self._fall_back(error)
            return
        self._probe_timer = asyncio.get_running_loop().call_later(self._pace.probe_seconds, self._judge_probe)

    def _judge_probe(self) -> None:
        self._read()
        if self._events is not None and self._events.unproved:
            silent = ", ".join(sorted(self._events.unproved))
            self._fall_back(
                HostError(
                    f"no event came from {silent} within {self._pace.probe_seconds:g} s of its being opened",
                    remedy=f"use a file system with inotify, or set {POLLING_VARIABLE}=1 to poll without this error",
                )
            )

    def also(self, paths: Iterable[str]) -> bool:
        """Watch these too: files, there or not, and directories in which each file counts.

        Returns whether one of them was not watched until now.
        """
        new = set(paths) - self._beside
        self._beside |= new
        for path, known in scan((), new).items():
            self._known.setdefault(path, known)
        self._watch_beside(new)
        return bool(new)

    def _watch_beside(self, paths: Iterable[str]) -> None:
        if self._events is not None:
            try:
                self._events.also(paths)
            except HostError as error:
                self._fall_back(error)

    def watch_instead(self, trees: Iterable[Path]) -> None:
        """Watch these trees in place of those before."""
        self._close_events()
        self._trees = tuple(str(tree) for tree in trees)
        if not self.polling:
            self._listen()
            self._watch_beside(self._beside)
        self._known = scan(self._trees, self._beside)
        self._poll_shares()

    def set_debounce(self, seconds: float) -> None:
        """Wait so long for what is unfinished, from now on."""
        self._debounce_seconds = self._settling.debounce_seconds = seconds

    # --- events -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._events is None:
            return
        try:
            for change in self._events.changes():
                self._recent.add(change.path)
                if change.complete:
                    self._settling.completed(change.path)
                else:
                    self._settling.unfinished(change.path)
        except HostError as error:  # the limit is reached with a directory that was made just now
            self._fall_back(error)
        self._settling.schedule()

    async def quiet(self, owners: Set[str] | None) -> None:
        """Wait until nothing that belongs to these owners, or to nobody, is held back; None is everything.

        What was written before the call counts, told by the kernel or not. Where files are polled, nothing is held
        back and this says nothing.
        """
        self._read()
        await self._settling.quiet(owners)

    # --- polling ------------------------------------------------------------------------------------------

    def _fall_back(self, error: HostError) -> None:
        """Events cannot be had any more: say so, and poll."""
        self._close_events()
        self._poll(error.message, error.remedy, failed=True)

    def _poll_shares(self) -> None:
        if self.polling:
            return
        kinds = shares_among({known.device for known in self._known.values()}, self._shares())
        if kinds:
            reason = f"the pages, or files that they read, are on a share ({', '.join(kinds)})"
            self._poll(
                reason, "what others write there makes no event here; keep the project on a disk of this machine"
            )

    def _poll(self, reason: str, remedy: str, *, failed: bool = False) -> None:
        self.polling = reason
        say = log.error if failed else log.warning
        say(
            "watcher.polling",
            directory=", ".join(self._trees),
            reason=reason,
            remedy=remedy,
            seconds=self._pace.poll_seconds,
        )
        self._hurry.set()

    async def _look_for_ever(self) -> None:
        while True:
            await self._pause()
            await self.look()

    async def _pause(self) -> None:
        """Wait until it is time for the next look; not at all if polling has just begun."""
        seconds = self._pace.audit_seconds
        if self.polling:
            seconds = max(self._pace.poll_seconds, self._look_seconds / POLLING_SHARE)
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()

    async def look(self) -> None:
        """Compare the disk with what was last seen of it, and tell what differs."""
        if self.polling:
            await self._look_while_polling()
        else:
            await self._audit()

    async def _look_while_polling(self) -> None:
        """Tell what has changed, unless it is being written at this moment: then the next time in any case."""
        self._recent.clear()  # what events tell on a share is told again
        changed = await self._changed_on_disk() | self._moving
        if not changed:
            return
        await asyncio.sleep(self._debounce_seconds)
        moving = await self._changed_on_disk()
        settled = changed - (moving - self._moving)
        self._moving = moving - settled
        if settled:
            self._on_change(settled)

    async def _changed_on_disk(self) -> frozenset[str]:
        before = self._known
        await self._scan()
        return differences(before, self._known)

    async def _scan(self) -> None:
        beside = frozenset(self._beside)
        begun = clock.monotonic()
        found = await asyncio.to_thread(scan, self._trees, beside)  # a share may take its time
        self._look_seconds = clock.monotonic() - begun
        for path, known in scan((), self._beside - beside).items():  # asked for meanwhile
            found[path] = self._known.get(path, known)
        self._known = found

    # --- the audit ----------------------------------------------------------------------------------------

    async def _audit(self) -> None:
        earlier, self._recent = self._recent, set()
        before = self._known
        await self._scan()
        self._read()  # the kernel has queued an event before what it tells could be seen
        changed = differences(before, self._known)
        if not changed:
            return
        told = earlier | self._recent
        silent = {path for path in changed if not _is_told(path, told)}
        self._count({path for path in silent if is_edit(before.get(path), self._known.get(path))})
        self._catch_up(silent)
        self._poll_shares()
        for path in changed:  # all of them: an event may have told of something earlier at the same path
            self._settling.found(path)
        self._settling.schedule()

    def _catch_up(self, silent: set[str]) -> None:
        if self._events is None:
            return
        try:
            self._events.catch_up(silent)
        except HostError as error:
            self._fall_back(error)

    def _count(self, missed: set[str]) -> None:
        if not missed:
            return
        self.missed += len(missed)
        log.warning(
            "watch.missed",
            paths=", ".join(sorted(missed)[:_PATHS_NAMED]),
            count=len(missed),
            total=self.missed,
            remedy=f"they made no event and were found by comparison; if that happens again, set {POLLING_VARIABLE}=1",
        )

    # --- stop ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop watching."""
        self._close_events()
        self._settling.close()
        if self._looking is not None:
            self._looking.cancel()

    def _close_events(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fileno())
            self._events.close()
            self._events = None


def _is_told(path: str, told: set[str]) -> bool:
    """Tell whether events told of this path, or of a directory that it is in."""
    while path not in told:
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
    return True
