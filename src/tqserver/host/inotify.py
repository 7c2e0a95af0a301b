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
from pathlib import Path

from tqserver.model.errors import HostError

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
OPEN = 0x20
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ISDIR = 0x40000000
_ONLYDIR = 0x1000000
_EXCL_UNLINK = 0x4000000
_MASK_ADD = 0x20000000

NAMES = MOVED_FROM | MOVED_TO | CREATE | DELETE  # what comes into a directory and leaves it
CHANGES = NAMES | MODIFY | ATTRIB | CLOSE_WRITE
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
    """Watches directories, each by itself; recursion is the caller's. ``fileno`` is for the event loop.

    The kernel watches directories, not paths. One that is watched by several paths (symbolic links) tells each of its
    events once per path; one that is gone tells :data:`IGNORED` and is watched no more.
    """

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify cannot be used", ctypes.get_errno())
        self._paths: dict[int, list[str]] = {}
        self._descriptors: dict[str, int] = {}

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return int(self._fd)

    @property
    def directories(self) -> frozenset[str]:
        """The directories that are watched."""
        return frozenset(self._descriptors)

    def watches(self, directory: str) -> bool:
        """Tell whether a directory is watched by this path."""
        return directory in self._descriptors

    def add(self, directory: str, events: int = CHANGES) -> None:
        """Watch a directory for ``events`` and those it is watched for already.

        Raises :class:`HostError` if a limit is reached, FileNotFoundError if the directory is gone,
        PermissionError if it cannot be read.
        """
        wd = self._add_watch(directory, events | _MASK_ADD)
        earlier = self._descriptors.get(directory)
        if earlier == wd:
            return
        if earlier is not None:
            self.remove(directory)  # another directory has the path now
        paths = self._paths.setdefault(wd, [])
        for path in [path for path in paths if not _is_same(path, directory)]:
            paths.remove(path)  # the directory was renamed
            self._descriptors.pop(path, None)
        paths.append(directory)
        self._descriptors[directory] = wd

    def set_events(self, directory: str, events: int = CHANGES) -> None:
        """Watch a directory that is watched for nothing but ``events`` from now on. Raises as :meth:`add`."""
        self._add_watch(directory, events)

    def _add_watch(self, directory: str, mask: int) -> int:
        wd: int = _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask | _ONLYDIR | _EXCL_UNLINK)
        if wd >= 0:
            return wd
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise FileNotFoundError(number, os.strerror(number), directory)
        if number == errno.EACCES:
            raise PermissionError(number, os.strerror(number), directory)
        raise _error(f"cannot watch {directory}", number)

    def remove(self, directory: str) -> None:
        """Stop watching a directory by this path, if it was watched."""
        wd = self._descriptors.pop(directory, None)
        if wd is None:
            return
        self._paths[wd].remove(directory)
        if not self._paths[wd]:
            del self._paths[wd]
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
            paths = self._paths.get(wd, ())  # none: the watch was removed while its events waited
            events += [Event(path, name, mask) for path in paths]
            if mask & IGNORED:
                self._forget(wd)

    def _forget(self, wd: int) -> None:
        for path in self._paths.pop(wd, ()):
            del self._descriptors[path]

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
    if number == errno.ENOSPC:  # inotify_add_watch(2): "No space left on device" would send people to look at a disk
        return HostError(
            f"{what}: the limit of inotify watches is reached",
            remedy=f"raise it: sysctl fs.inotify.max_user_watches={_raised('max_user_watches', 524288)}",
        )
    if number == errno.EMFILE:
        return HostError(
            f"{what}: the limit of inotify instances, or of open files, is reached",
            remedy=f"raise it: sysctl fs.inotify.max_user_instances={_raised('max_user_instances', 1024)}; ulimit -n",
        )
    return HostError(f"{what}: {os.strerror(number)}", remedy="upgrade the kernel, or live with polling")


def _raised(limit: str, usual: int) -> int:
    """Return a value for a limit that is more than the one in force."""
    try:
        return max(usual, 2 * int(Path("/proc/sys/fs/inotify", limit).read_text()))
    except (OSError, ValueError):
        return usual
