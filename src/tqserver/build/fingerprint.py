"""What can change a result, as one digest.

The bytes are read once: digest, copy and compile check all see the same. What is no part of a page - editors'
droppings, caches, data that a page writes - does not count, so a page that logs beside its code does not reload.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from tqserver.build.runtimes.base import Inputs, Project
from tqserver.model.errors import Location, PageError
from tqserver.model.pages import PUBLIC, Page

FORMAT = "1"  # change it when artifacts of earlier versions must not be reused
DIGEST_BYTES = 16
_IGNORED = (
    "*~",
    ".*",
    "#*#",
    "*.swp",
    "*.swx",
    "*.tmp",
    "4913",
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


class Unsettled(Exception):
    """The files changed while they were looked at: look again when they rest."""


@lru_cache(maxsize=4096)  # of a thousand pages, most files have the same few names
def is_ignored(name: str) -> bool:
    """Tell whether a file or directory of this name is no part of any page."""
    return name in _IGNORED_DIRECTORIES or any(fnmatch(name, pattern) for pattern in _IGNORED)


def page_files(page: Page) -> list[Path]:
    """Return the files below a page's directory that belong to it, in order. Raises :class:`PageError`."""
    nested = {os.path.join(page.directory, name) for name in page.nested}
    files: list[Path] = []
    for directory, directories, names in os.walk(page.directory, followlinks=False):
        directories[:] = sorted(
            name for name in directories if not is_ignored(name) and os.path.join(directory, name) not in nested
        )
        for name in sorted(names):
            if not is_ignored(name):
                _check_name(directory, name)
                files.append(Path(directory, name))
    return files


def _check_name(directory: str, name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise PageError(
            f"the file name {shown!r} is not valid UTF-8", remedy="rename it", location=Location(directory)
        ) from None


def read_inputs(inputs: Inputs) -> Mapping[Path, bytes]:
    """Return the content of every regular file. Raises :class:`PageError` or :class:`Unsettled`."""
    contents = {}
    for file in inputs.files:
        try:
            if stat.S_ISREG(file.stat().st_mode):  # a socket or pipe is no input
                contents[file] = file.read_bytes()
        except FileNotFoundError:
            if file.is_symlink():
                raise PageError(
                    "the symbolic link leads nowhere",
                    remedy="mend or remove it",
                    location=Location(str(file)),
                ) from None
            raise Unsettled(f"{file} has vanished") from None
        except OSError as error:
            remedy = "make it readable for the user that runs tqserver"
            if error.errno == errno.ELOOP:
                remedy = "the symbolic link leads back to itself: remove it"
            raise PageError(
                f"cannot read the file: {error.strerror}", remedy=remedy, location=Location(str(file))
            ) from error
    return contents


def digest_of(page: Page, project: Project, inputs: Inputs, contents: Mapping[Path, bytes]) -> str:
    """Return the name of the artifact that these inputs make, as 32 hexadecimal digits."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add(*parts: str | bytes) -> None:
        for part in parts:
            text = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            hashed.update(len(text).to_bytes(8, "big") + text)  # lengths keep neighbours apart

    add(FORMAT, page.runtime, page.name, page.entry, project.mode)
    for name, fact in sorted(inputs.facts.items()):
        add(name, fact)
    for file, content in sorted(contents.items()):
        add(os.path.relpath(file, project.root), "x" if os.access(file, os.X_OK) else "-", content)
    return hashed.hexdigest()
