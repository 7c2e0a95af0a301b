"""Files that users write: the one door through which they are opened, which never waits and knows a bound.

A name in a project may lead anywhere. Opening a pipe waits for a writer, reading ``/dev/zero`` never ends, reading
``/proc/kmsg`` waits though it is a regular file: none of that may happen to a server that others depend on. And what
is read whole is bounded, for memory is shared by all pages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_SYSTEM = ("/proc", "/sys", "/dev")  # what is there is no content, and reading it may wait or change something
_MEMORY = "/dev/shm"  # noqa: S108 - a file system like others; nothing is written there
PIECE_BYTES = 2**18  # hashed in 0.3 ms
_OWN_DESCRIPTORS = "/proc/self/fd"


class Refused(OSError):
    """The system would open it and no server should; ``strerror`` says what it is, ``remedy`` what to do."""

    def __init__(self, path: str | Path, what: str, remedy: str) -> None:
        super().__init__(errno.EINVAL, what, str(path))
        self.remedy = remedy


def is_of_the_system(real: str) -> bool:
    """Tell whether a path without symbolic links is that of the kernel's or of a device."""
    return any(_is_in(real, top) for top in _SYSTEM) and not _is_in(real, _MEMORY)


def _is_in(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """Give a descriptor to read a regular file. Raises :class:`Refused`, or OSError as the system says it."""
    _check(path, os.stat(path))  # before it is opened: that alone sets some devices in motion
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(descriptor))
        if is_of_the_system(os.readlink(f"{_OWN_DESCRIPTORS}/{descriptor}")):
            raise Refused(path, "it leads to the kernel's own files", "remove the link")
        yield descriptor
    finally:
        os.close(descriptor)


def _check(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise Refused(path, "it is no regular file", "replace it by one, or remove it")


def pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the content of an open file, in pieces of at most :data:`PIECE_BYTES`."""
    while piece := os.read(descriptor, PIECE_BYTES):
        yield piece


def read(path: str | Path, limit_bytes: int) -> bytes:
    """Return the content of a regular file. Raises as :func:`opened`, :class:`Refused` for one beyond the limit."""
    content = bytearray()
    with opened(path) as descriptor:
        for piece in pieces(descriptor):
            content += piece
            if len(content) > limit_bytes:
                raise Refused(path, f"it is larger than {limit_bytes >> 10} KiB", "make it smaller")
    return bytes(content)
