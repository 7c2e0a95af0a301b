"""inotify(7): what changed in a directory, and whether the writer has finished.

Why not a library: those that wrap inotify for Python or Rust report "modified" and then wait for a quiet time,
since they drop the one event that says that a writer has closed its file (IN_CLOSE_WRITE). With it a save is
known to be complete the moment it is, and nothing polls while nothing happens (``docs/decisions/0001``).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

from tqserver.model.errors import HostError

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ISDIR = 0x40000000
_ONLYDIR = 0x1000000
_EXCL_UNLINK = 0x4000000

_WATCHED = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
_HEAD = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_READ_BYTES = 256 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to ``name`` in ``directory``; ``name`` is empty for the directory itself."""

    directory: str
    name: str
    mask: int

    @property
    def path(self) -> str:
        """The path of what the event is about."""
        return f"{self.directory}/{self.name}" if self.name else self.directory


class Inotify:
    """Watches directories, each by itself; recursion is the caller's. ``fileno`` is for the event loop."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify_init1", ctypes.get_errno())
        self._directories: dict[int, str] = {}
        self._descriptors: dict[str, int] = {}

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return int(self._fd)

    @property
    def directories(self) -> frozenset[str]:
        """The directories that are watched."""
        return frozenset(self._descriptors)

    def add(self, directory: str) -> None:
        """Watch a directory. Raises :class:`HostError`, or FileNotFoundError if it is gone already."""
        wd = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _WATCHED | _ONLYDIR | _EXCL_UNLINK)
        if wd < 0:
            number = ctypes.get_errno()
            if number in (errno.ENOENT, errno.ENOTDIR):
                raise FileNotFoundError(number, os.strerror(number), directory)
            raise _error(f"cannot watch {directory}", number)
        earlier = self._directories.get(wd)
        if earlier is not None and earlier != directory:
            if _is_same(earlier, directory):
                return  # a second way to a directory that is watched (a symbolic link): the first name stays
            self._descriptors.pop(earlier, None)  # the directory was renamed: one watch, a new name
        self._directories[wd] = directory
        self._descriptors[directory] = wd

    def remove(self, directory: str) -> None:
        """Stop watching a directory, if it was watched."""
        wd = self._descriptors.pop(directory, None)
        if wd is not None:
            self._directories.pop(wd, None)
            _libc.inotify_rm_watch(self._fd, wd)

    def read(self) -> list[Event]:
        """Return all events that wait. An event of mask ``Q_OVERFLOW`` says that some were lost."""
        events: list[Event] = []
        while True:
            try:
                received = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return events
            self._parse(received, events)

    def _parse(self, received: bytes, events: list[Event]) -> None:
        offset = 0
        while offset < len(received):
            wd, mask, _, length = _HEAD.unpack_from(received, offset)
            start = offset + _HEAD.size
            offset = start + length
            name = os.fsdecode(received[start:offset].rstrip(b"\0"))
            if mask & Q_OVERFLOW:
                events.append(Event("", "", Q_OVERFLOW))
                continue
            directory = self._directories.get(wd)
            if directory is None:
                continue  # the watch was removed while its events waited
            if mask & IGNORED:
                self._directories.pop(wd)
                if self._descriptors.get(directory) == wd:
                    del self._descriptors[directory]
                continue
            events.append(Event(directory, name, mask))

    def close(self) -> None:
        """Give back the descriptor and all watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _error(what: str, number: int) -> HostError:
    if number == errno.ENOSPC:
        remedy = "raise the limit: sysctl fs.inotify.max_user_watches=524288"
    elif number == errno.EMFILE:
        remedy = "raise the limit: sysctl fs.inotify.max_user_instances=1024"
    elif number == errno.EACCES:
        remedy = "make the directory readable for the user that runs tqserver"
    else:
        remedy = "set WATCHFILES_FORCE_POLLING=1 to poll instead"
    return HostError(f"{what}: {os.strerror(number)}", remedy=remedy)
