"""inotify events of whole trees, and of single files beside them, as changes of paths.

inotify watches directories one by one. Here is what follows from that: new directories are watched as they come,
directories that go and come back are found again, and what symbolic links lead to is watched under the links' names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tqserver.build.files import is_ignored, is_opaque
from tqserver.control.scan import walk
from tqserver.host import inotify
from tqserver.host.inotify import Event, Inotify
from tqserver.host.log import get_logger

_COMPLETE = inotify.CLOSE_WRITE | inotify.MOVED_TO
log = get_logger("watcher")


class Change(NamedTuple):
    """Something happened at a path. ``complete``: what is there now is whole, as far as its writer is concerned."""

    path: str
    complete: bool


class TreeEvents:
    """Watches trees, and files and single directories beside them.

    Every method raises :class:`~tqserver.model.errors.HostError` if a limit of inotify is reached.
    ``unproved`` are the trees whose probe has made no event yet.
    """

    def __init__(self, source: Inotify, trees: Iterable[str]) -> None:
        self._inotify = source
        self._trees = tuple(trees)
        self._roots = set(self._trees)  # trees, and directories of what is beside them
        self._beside: set[str] = set()  # files, and directories in which each file counts
        self._awaited: set[str] = set()  # paths at which a root, or a directory above one, will come
        self._stands_for: defaultdict[str, set[str]] = defaultdict(set)  # path -> what else changes with it
        self._links: dict[str, str] = {}  # symbolic link to a file -> where it leads
        self.unproved: set[str] = set()

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return self._inotify.fileno()

    def start(self) -> None:
        """Watch the trees."""
        for tree in self._trees:
            self._watch_root(tree)

    def probe(self) -> None:
        """Open each tree, which must make an event, and writes nothing."""
        for tree in self._trees:
            if not self._try_add(tree, inotify.OPEN):
                continue  # it is gone at this moment: it is awaited
            self.unproved.add(tree)
            try:
                os.close(os.open(tree, os.O_RDONLY | os.O_DIRECTORY))
            except OSError:
                self.unproved.discard(tree)

    def also(self, paths: Iterable[str]) -> None:
        """Watch these too: files, there or not, and directories in which each file counts."""
        for path in paths:
            if path in self._beside:
                continue
            self._beside.add(path)
            directory = path if os.path.isdir(path) else os.path.dirname(path)
            self._stands_for[directory].add(path)
            is_walked = self._is_in_tree(directory) and self._inotify.watches(directory)
            if directory not in self._roots and not is_walked:
                self._roots.add(directory)
                self._watch_root(directory)
            if os.path.islink(path):
                self._add_link(path)

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()

    # --- what to watch ------------------------------------------------------------------------------------

    def _watch_root(self, root: str) -> None:
        """Watch a root, and the directories above it: there it is seen to go and to come back."""
        below, above = root, os.path.dirname(root)
        while not os.path.isdir(above) and above != "/":
            below, above = above, os.path.dirname(above)
        self._await(below, above)
        if below != root and os.path.isdir(below):
            self._watch_root(root)  # it came while we looked
        elif root in self._trees:
            self._add_tree(root)
        else:
            self._try_add(root)

    def _await(self, path: str, above: str) -> None:
        """Be told when ``path`` goes or comes in ``above``, and so with every directory up to one that holds a tree.

        Any of them may be renamed, and takes what is below it along without an event there.
        """
        self._try_add(above, inotify.NAMES)
        self._awaited.add(path)
        if not any(is_below(tree, above) for tree in self._trees) and above != "/":
            self._await(above, os.path.dirname(above))

    def _add_tree(self, top: str) -> None:
        for path, status, is_link in walk(top, above=self._between(top)):
            if path != top and is_opaque(os.path.basename(path)):
                continue
            if stat.S_ISDIR(status.st_mode):
                self._try_add(path)
            elif is_link:
                self._add_link(path)

    def _between(self, path: str) -> list[str]:
        """Return the directories from a tree's top down to above this path: a link to one of them is a loop."""
        tree = next((tree for tree in self._trees if is_below(path, tree)), path)
        above = []
        while path != tree:
            path = os.path.dirname(path)
            above.append(path)
        return above

    def _add_link(self, link: str) -> None:
        """A file's events are those of the directory that it is in: watch that of the link's target too."""
        self._drop_link(link)
        try:
            target = os.path.realpath(link)
        except OSError:  # a link in /proc, or one that has just gone
            return
        self._links[link] = target
        self._stands_for[target].add(link)
        self._try_add(os.path.dirname(target))

    def _drop_link(self, link: str) -> None:
        target = self._links.pop(link, None)
        if target is not None:
            self._stands_for[target].discard(link)

    def _try_add(self, directory: str, events: int = inotify.CHANGES) -> bool:
        try:
            self._inotify.add(directory, events)
        except (FileNotFoundError, PermissionError):
            return False  # gone again; or unreadable, which discovery reports with its remedy
        return True

    def _forget(self, path: str) -> None:
        """A directory that was renamed keeps its watch under its old path: drop it and those below."""
        self._drop_link(path)
        if self._inotify.watches(path):
            for directory in self._inotify.directories:
                if is_below(directory, path):
                    self._inotify.remove(directory)

    # --- what has happened --------------------------------------------------------------------------------

    def changes(self) -> Iterator[Change]:
        """Read the events that wait; yield what they say, in order."""
        for event in self._inotify.read():
            if event.mask & inotify.OPEN:
                self._proved(event)
            elif event.mask & inotify.Q_OVERFLOW:
                log.warning("watcher.overflow", remedy="events were lost; all pages are compared with the disk")
                self.renew()
                yield from (Change(path, True) for path in (*self._trees, *self._beside))
            else:
                yield from self._changes_of(event)

    def _proved(self, event: Event) -> None:
        if event.directory in self.unproved:
            self.unproved.remove(event.directory)
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self._inotify.set_events(event.directory)  # nobody else's opening is of interest

    def _changes_of(self, event: Event) -> Iterator[Change]:
        path, mask = event.path, event.mask
        told = self._told(event)
        roots: set[str] = set()
        if path in self._awaited or mask & inotify.IGNORED:
            roots = {root for root in self._roots if is_below(root, path)}
        if not told and not roots:
            return
        self._follow(path, roots, mask)
        told.update(*(self._told_of_root(root) for root in roots))
        complete = bool(mask & _COMPLETE) or self._is_born_complete(path, mask)
        for each in sorted(told):
            yield Change(each, complete)

    def _follow(self, path: str, roots: set[str], mask: int) -> None:
        """Watch what came, and no longer what went."""
        for root in roots:
            self._forget(root)
        for root in roots:  # when all are forgotten: one may be in another
            self._watch_root(root)
        if roots or not self._is_in_tree(path):
            if path in self._beside and mask & inotify.NAMES and os.path.islink(path):
                self._add_link(path)
        elif mask & (inotify.NAMES | inotify.IGNORED):
            self._forget(path)
            self._look_at(path)
        elif mask & inotify.ATTRIB and mask & inotify.ISDIR:  # it may have become readable
            self._add_tree(path)

    def _look_at(self, path: str) -> None:
        if is_opaque(os.path.basename(path)):
            return
        if os.path.isdir(path):
            self._add_tree(path)
        elif os.path.islink(path):
            self._add_link(path)

    @staticmethod
    def _is_born_complete(path: str, mask: int) -> bool:
        """A directory or symbolic link is whole when it is made; files in it have events of their own."""
        return bool(mask & inotify.CREATE) and (bool(mask & inotify.ISDIR) or os.path.islink(path))

    def _told(self, event: Event) -> set[str]:
        path = event.path
        told = set(self._stands_for.get(path, ()))
        counts = self._is_in_tree(path) or event.directory in self._beside
        is_presence = is_opaque(event.name) and event.mask & inotify.NAMES
        if path in self._beside or (counts and (is_presence or not is_ignored(event.name))):
            told.add(path)
        return told

    def _told_of_root(self, root: str) -> set[str]:
        return {root, *self._stands_for.get(root, ())} if root in self._trees else set(self._stands_for[root])

    def _is_in_tree(self, path: str) -> bool:
        return any(is_below(path, tree) for tree in self._trees)

    # --- what events have missed --------------------------------------------------------------------------

    def catch_up(self, paths: Iterable[str]) -> None:
        """Watch anew what changed at these paths without an event."""
        for path in sorted(paths):
            for root in self._roots & {path, os.path.dirname(path)}:
                if root == path or root not in self._trees:
                    self._watch_root(root)
            if self._is_in_tree(path):
                self._look_at(path)

    def renew(self) -> None:
        """Watch everything anew."""
        for root in sorted(self._roots):
            self._watch_root(root)


def is_below(path: str, top: str) -> bool:
    """Tell whether a path is ``top`` or in it."""
    return path == top or path.startswith(top + "/")
