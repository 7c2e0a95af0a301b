"""Directories that this user alone may look into, and nobody else could have prepared.

Their names can be known beforehand, in a directory that everybody may write to: whoever makes one first would own what
the server then keeps there, its code and its sockets.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tqserver.model.errors import HostError

PASSABLE = 0o711  # others may pass through by a name that they know, and list nothing


def private_directory(path: Path) -> None:
    """Make a directory, and those missing above it, for this user alone; or see that the one there is no other's.

    One that was made :data:`PASSABLE` for workers of other users stays so.

    Raises :class:`HostError` if it cannot be made, is a symbolic link, belongs to somebody else, or can be written to
    by others.
    """
    try:
        _make(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise HostError(
                f"{path} is a symbolic link", remedy="remove it; a directory is made in its place"
            ) from error
        raise HostError(
            f"cannot use {path}: {error.strerror}",
            remedy=f"make {path.parent} a directory that the user that runs tqserver may write to",
        ) from error
    try:
        status = os.fstat(descriptor)
        _check(path, status)
        if status.st_mode & 0o077 not in (0, PASSABLE & 0o077):
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    missing = [path]
    while not os.path.lexists(missing[-1].parent):
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)


def _check(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise HostError(
            f"{path} belongs to another user (uid {status.st_uid})",
            remedy="remove it, or run tqserver as that user",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(
            f"others can write to {path}, so what is in it may be theirs",
            remedy="remove it: it is made anew",
        )
