"""Which files belong to a page.

What is no part of a page - editors' droppings, caches, data that a page writes - does not count, so a page
that logs beside its code does not reload.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Set
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from tqserver.host import reading
from tqserver.model.errors import Location, PageError
from tqserver.model.pages import PUBLIC, Page

_IGNORED = (
    "*~",
    ".*",
    "#*#",
    "*.swp",
    "*.swx",
    "*.tmp",
    "4913",
    "*___jb_*",
    "*.pyc",
    "*.pyo",
    "*.log",
    "*.db",
    "*.sqlite",
    "*.sqlite3",
    "*-journal",
    "*-wal",
    "*-shm",
)
_IGNORED_DIRECTORIES = frozenset({"__pycache__", "node_modules", PUBLIC})


LARGEST_SOURCE_BYTES = 2**24  # of what is read whole: code


class Unsettled(Exception):
    """The files changed while they were looked at: look again when they rest."""


class Unfinished(Unsettled):
    """A writer seems to be at work; ``error`` is what is wrong if the files stay as they are."""

    def __init__(self, error: PageError) -> None:
        super().__init__(error.message)
        self.error = error


@lru_cache(maxsize=4096)  # of a thousand pages, most files have the same few names
def is_ignored(name: str) -> bool:
    """Tell whether a file or directory of this name is no part of any page."""
    return name in _IGNORED_DIRECTORIES or any(fnmatch(name, pattern) for pattern in _IGNORED)


def page_files(page: Page) -> list[Path]:
    """Return the files below a page's directory that belong to it, in order.

    Symbolic links are followed. Raises :class:`PageError`, or :class:`Unsettled` if directories vanish.
    """
    nested = {f"{page.directory}/{name}" for name in page.nested}
    return list(_files_below(page.directory, nested, ()))


def _files_below(directory: str, nested: Set[str], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below a directory; ``above`` are the identities of those on the way to it."""
    here = _identity(directory)
    if here in above:
        raise refused(directory, "the symbolic link leads back to a directory above it", "remove the link")
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        raise Unsettled(f"{directory} has vanished") from None
    except OSError as error:
        raise unreadable(directory, "directory", error) from error
    for entry in entries:
        if is_ignored(entry.name) or entry.path in nested:
            continue
        _check_name(directory, entry.name)
        if _is_directory(entry):
            yield from _files_below(entry.path, nested, (*above, here))
        else:
            yield Path(entry.path)


def _identity(directory: str) -> tuple[int, int]:
    try:
        status = Path(directory).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Unsettled(f"{directory} has vanished") from None
    except OSError as error:
        raise unreadable(directory, "directory", error) from error
    return status.st_dev, status.st_ino


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise unreadable(entry.path, "file", error) from error


def _check_name(directory: str, name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise refused(directory, f"the file name {shown!r} is not valid UTF-8", "rename it") from None


def refused(place: str | Path, message: str, remedy: str) -> PageError:
    """Return what to raise for a file or directory of a page that cannot be one."""
    return PageError(message, remedy=remedy, location=Location(str(place)))


def unreadable(place: str | Path, kind: str, error: OSError) -> PageError:
    """Return what to raise for a file or directory of a page that the system refuses."""
    if isinstance(error, reading.Refused):
        return refused(place, f"cannot read the {kind}: {error.strerror}", error.remedy)
    if error.errno == errno.ELOOP:
        return refused(place, "the symbolic link leads back to itself", "remove the link")
    remedy = "make it readable for the user that runs tqserver"
    return refused(place, f"cannot read the {kind}: {error.strerror}", remedy)
