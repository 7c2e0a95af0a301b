"""A file of a page's ``public/``, opened so that it is certainly one of it.

A name is opened first and judged afterwards, by what was opened: whatever is renamed or linked meanwhile, it is
that which is sent. Looking first and opening then would leave a moment in between.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tqserver.host import clock
from tqserver.proxy.public import CODINGS, Answer, Asked, PublicDirectory, Version, is_hidden
from tqserver.wire.http1 import RequestHead

# No pipe or device is waited for, and none becomes the terminal of this process.
_TO_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO))


class PublicFile:
    """A regular file that is open, and how it is answered. Whoever has it closes it."""

    __slots__ = ("answer", "descriptor")

    def __init__(self, descriptor: int, answer: Answer) -> None:
        self.descriptor = descriptor
        self.answer = answer

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)


def find(public: PublicDirectory, request: RequestHead) -> PublicFile | None:
    """Return the file that a request asks for, None if it asks for none that is there.

    Raises OSError if there is one that cannot be read.
    """
    name = public.name_of(request)
    if name is None:
        return None
    with _directory(public.path) as directory:
        plain = _open(directory, name) if directory is not None else None
        if directory is None or plain is None:
            return None
        asked = Asked(request)
        for coding in asked.codings(name):
            if (compressed := _open(directory, name + CODINGS[coding])) is None:
                continue
            if compressed[1].modified >= plain[1].modified:  # an older one is of what the file was before
                os.close(plain[0])
                return _answered(asked, name, compressed, coding)
            os.close(compressed[0])
        return _answered(asked, name, plain, b"")


Opened = tuple[int, Version]


def _answered(asked: Asked, name: bytes, opened: Opened, coding: bytes) -> PublicFile:
    descriptor, version = opened
    return PublicFile(descriptor, asked.answer(name, version, coding, clock.wall()))


@contextmanager
def _directory(path: bytes) -> Iterator[int | None]:
    """Hold on to a directory, wherever its name leads at this moment."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(directory: int, name: bytes) -> Opened | None:
    """Open a regular file that lies below the directory, its name's symbolic links followed."""
    try:
        descriptor = os.open(name, _TO_READ, dir_fd=directory)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not _is_in(directory, descriptor):
        os.close(descriptor)
        return None
    return descriptor, Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _is_in(directory: int, descriptor: int) -> bool:
    """Tell whether what was opened lies below the directory, where the kernel has both, and nothing of it is hidden."""
    top = os.readlink(b"/proc/self/fd/%d" % directory) + b"/"
    real = os.readlink(b"/proc/self/fd/%d" % descriptor)
    return real.startswith(top) and not is_hidden(real[len(top) :])
