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
from itertools import islice
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
_LEADS_BACK = "the symbolic link leads back to a directory above it"
_IGNORED_DIRECTORIES = frozenset({"__pycache__", "node_modules", PUBLIC})


DEEPEST = 100  # directories in one another
MOST_FILES = 10_000  # of a page, and of what one symbolic link leads to
LARGEST_SOURCE_BYTES = 2**24  # of what is read whole: code


class Unsettled(Exception):
    """The files changed while they were looked at: look again when they rest."""


class Unfinished(Unsettled):
    """A writer seems to be at work; ``error`` is what is wrong if the files stay as they are."""

    def __init__(self, error: PageError) -> None:
        super().__init__(error.message)
        self.error = error


def is_opaque(name: str) -> bool:
    """Tell whether of a directory of this name it counts that it is there, and not what is in it."""
    return name == PUBLIC


@lru_cache(maxsize=4096)  # of a thousand pages, most files have the same few names
def is_ignored(name: str) -> bool:
    """Tell whether a file or directory of this name is no part of any page."""
    return name in _IGNORED_DIRECTORIES or any(fnmatch(name, pattern) for pattern in _IGNORED)


def leads_astray(link: str) -> str:
    """Tell why a symbolic link to a directory is not followed: empty if it may be.

    Who links to ``/`` would have the whole machine read, and ``/proc`` has no end.
    """
    directory = os.path.dirname(link)
    try:
        real, here = os.path.realpath(link), os.path.realpath(directory)
    except OSError as error:  # of a link in /proc
        return f"the symbolic link cannot be followed: {error.strerror}"
    if reading.is_of_the_system(real):
        return "the symbolic link leads to the kernel's own files"
    above = real.rstrip("/") + "/"
    if any(f"{place}/".startswith(above) for place in (directory, here)):
        return _LEADS_BACK
    return ""


def page_files(page: Page) -> list[Path]:
    """Return the files below a page's directory that belong to it, in order.

    Symbolic links are followed. Raises :class:`PageError`, or :class:`Unsettled` if directories vanish.
    """
    nested = {f"{page.directory}/{name}" for name in page.nested}
    files = list(islice(_files_below(page.directory, nested, ()), MOST_FILES + 1))
    if len(files) > MOST_FILES:
        raise refused(
            page.directory,
            f"it has more than {MOST_FILES} files",
            "move what is not code out of pages/, or into the page's public/ if clients fetch it",
        )
    return files


def _files_below(directory: str, nested: Set[str], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below a directory; ``above`` are the identities of those on the way to it."""
    here = _identity(directory)
    if here in above:
        raise refused(directory, _LEADS_BACK, "remove the link")
    if len(above) > DEEPEST:
        raise refused(directory, f"directories are nested more than {DEEPEST} deep", "nest them less, or remove them")
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
        if not _is_directory(entry):
            yield Path(entry.path)
            continue
        if entry.is_symlink() and (wrong := leads_astray(entry.path)):
            raise refused(entry.path, wrong, "remove the link")
        yield from _files_below(entry.path, nested, (*above, here))


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
