"""What is on disk, as far as ``stat`` tells: two scans tell what has changed between them.

Reading every file would be too dear for a look each minute at a thousand pages, or three times a second when
polling. A scan says where to look; whether the content differs is decided by digest, by the reconciler.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from tqserver.build.files import DEEPEST, MOST_FILES, is_ignored, is_opaque, leads_astray


class Signature(NamedTuple):
    """What differs after a change. Times in nanoseconds; 0 where a directory's changes with each file in it."""

    device: int
    inode: int
    mode: int
    size: int
    modified: int
    changed: int  # st_ctime: no program can set it, so it tells even of an edit that puts st_mtime back


class Entry(NamedTuple):
    """One path of a walk, with what it leads to."""

    path: str
    status: os.stat_result
    is_link: bool


Scan = Mapping[str, Signature]


def walk(top: str, above: Iterable[str] = ()) -> Iterator[Entry]:
    """Yield ``top`` and everything below it that is not ignored, a directory before it is listed.

    Symbolic links are followed, but not to a directory that contains them, nor without end; ``above`` names directories
    that contain ``top``. A link that leads nowhere is yielded as itself. What an opaque directory holds is left out, so
    is what cannot be read, and what is refused as part of a page: discovery and the page say so.
    """
    try:
        status = os.stat(top)
    except OSError:
        return
    containing = frozenset(_identity(path) for path in above)
    is_link = os.path.islink(top)
    if is_link and containing and stat.S_ISDIR(status.st_mode) and leads_astray(top):
        return
    yield Entry(top, status, is_link)
    yield from _in(Entry(top, status, is_link), containing)


def _in(directory: Entry, containing: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    """Yield what is below a directory: of one that a link leads to, as much as may be part of a page."""
    below = _below(directory.path, containing | {(directory.status.st_dev, directory.status.st_ino)})
    return islice(below, MOST_FILES if directory.is_link else None)


def _below(directory: str, containing: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    if len(containing) > DEEPEST:
        return
    try:
        with os.scandir(directory) as listed:
            entries = [entry for entry in listed if is_opaque(entry.name) or not is_ignored(entry.name)]
    except OSError:
        return  # gone again, or unreadable, which discovery reports with its remedy
    for entry in entries:
        try:
            status = _leads_to(entry)
        except OSError:
            continue  # gone again, or its directory may be listed and not entered
        found = Entry(entry.path, status, entry.is_symlink())
        if not stat.S_ISDIR(status.st_mode):
            yield found
        elif (status.st_dev, status.st_ino) not in containing and not (found.is_link and leads_astray(found.path)):
            yield found
            if not is_opaque(entry.name):
                yield from _in(found, containing)


def _leads_to(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def signature(status: os.stat_result) -> Signature:
    """Return what tells one state of a file or directory from the next."""
    is_directory = stat.S_ISDIR(status.st_mode)
    return Signature(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        0 if is_directory else status.st_size,
        0 if is_directory else status.st_mtime_ns,
        0 if is_directory else status.st_ctime_ns,
    )


def signature_of(path: str) -> Signature | None:
    """Return the signature of one path, None if nothing is there."""
    try:
        return signature(os.stat(path))
    except OSError:
        return None


def scan(trees: Iterable[str], beside: Iterable[str]) -> dict[str, Signature]:
    """Return the signatures of all in these trees, and of files and directories ``beside`` them, with their files."""
    found = {entry.path: signature(entry.status) for tree in trees for entry in walk(tree)}
    for path in beside:
        for each in (path, *_files_in(path)):
            if (known := signature_of(each)) is not None:
                found[each] = known
    return found


def _files_in(path: str) -> list[str]:
    try:
        with os.scandir(path) as listed:
            return [entry.path for entry in listed if not is_ignored(entry.name) and entry.is_file()]
    except OSError:
        return []  # a file, most often; or gone


def differences(before: Scan, after: Scan) -> frozenset[str]:
    """Return the paths that appeared, vanished or changed."""
    changed = {path for path, known in after.items() if before.get(path) != known}
    return frozenset(changed | (before.keys() - after.keys()))


def is_edit(before: Signature | None, after: Signature | None) -> bool:
    """Tell whether two signatures differ in more than st_ctime.

    That one alone changes when a backup makes a hard link: no edit, and no event to be missed.
    """
    if before is None or after is None:
        return before is not after
    return before[:-1] != after[:-1]
