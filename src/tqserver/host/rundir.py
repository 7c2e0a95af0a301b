"""``.tqserver/`` in the project: one server at a time, its sockets, and the sweep of what a crash left.

::

    .tqserver/lock      held (flock) by the server that runs, and by one that takes over; its text is the pid
    .tqserver/instance  the ids in TQ_INSTANCE of every process of the servers that hold the lock
    .tqserver/run/ID/   sockets of the workers of one server; run/ is emptied at start
    .tqserver/run/ID/UID/  where workers that run as another user make theirs
    .tqserver/admin.sock  where ``tqserver status`` and the like ask the server
    .tqserver/store/    artifacts, unless workers.temp_dir says otherwise
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from tqserver.host.private import PASSABLE, private_directory
from tqserver.host.process import kill_all_with
from tqserver.model.errors import HostError
from tqserver.wire.messages import Identity

NAME = ".tqserver"
CONFIG_FILE = Path("config/server.yaml")  # in the project, unless -config says otherwise
INSTANCE_VARIABLE = "TQ_INSTANCE"
_SOCKET_PATH_LIMIT = 107  # sun_path of sockaddr_un, less its final NUL (unix(7))
_KILL_ROUNDS = 100
_LONGEST_SOCKET_NAME = len("/0123456789abcdef/4294967295/w9999999999.sock")


def admin_socket(project: Path) -> Path:
    """Return where the server of a project is asked."""
    return project / NAME / "admin.sock"


def journal_file(project: Path) -> Path:
    """Return where it is remembered what pages were seen to load."""
    return project / NAME / "journal.json"


def make_directory(project: Path) -> Path:
    """Make ``.tqserver/``, for its owner alone, and return it. Raises :class:`HostError` if it cannot be made."""
    directory = project / NAME
    private_directory(directory)
    return directory


def _unusable(directory: Path, error: OSError) -> HostError:
    remedy = "make the project directory writable for the user that runs tqserver"
    return HostError(f"cannot use {directory}: {error.strerror}", remedy=remedy)


class RunDirectory:
    """The directory of one server. Raises :class:`HostError` if another server runs here or it cannot be made.

    ``inherited_lock`` is the lock of a running server, from which this one takes over: nothing of it is touched.
    """

    def __init__(self, project: Path, inherited_lock: int | None = None) -> None:
        self.root = project / NAME
        self.instance = secrets.token_hex(8)
        self.killed: list[int] = []
        self.earlier: list[str] = []  # the ids of servers that died without a word
        if inherited_lock is not None:
            self.lock = inherited_lock
            self._register(self._instances())
            self.sockets = self._socket_directory(project)
            return
        make_directory(project)
        try:
            self.lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.root, error) from error
        self._take_lock()
        self.killed = self._sweep()
        self.sockets = self._socket_directory(project, fresh=True)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self.lock, 32, 0).decode(errors="replace").strip()
            os.close(self.lock)
            raise HostError(
                f"another tqserver (pid {pid or 'unknown'}) already runs in {self.root.parent}",
                remedy="stop it, or start this one in another project directory",
            ) from None
        self.sign()

    def sign(self) -> None:
        """Write this process's pid into the lock file."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)

    def _sweep(self) -> list[int]:
        """Kill what an earlier server, which died without a word, left behind; return the pids."""
        admin_socket(self.root.parent).unlink(missing_ok=True)
        self.earlier = self._instances()
        killed = [pid for earlier in self.earlier for pid in kill_all_with(INSTANCE_VARIABLE, earlier)]
        self._register([])
        return killed

    def _instances(self) -> list[str]:
        try:
            return (self.root / "instance").read_text().split()
        except FileNotFoundError:
            return []

    def _register(self, others: list[str]) -> None:
        (self.root / "instance").write_text("".join(f"{instance}\n" for instance in [*others, self.instance]))

    def _socket_directory(self, project: Path, *, fresh: bool = False) -> Path:
        directory = self.root / "run"
        if len(os.fsencode(directory)) + _LONGEST_SOCKET_NAME > _SOCKET_PATH_LIMIT:
            digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
            directory = Path(tempfile.gettempdir()) / f"tqserver-{os.getuid()}-{digest}"
        private_directory(directory)
        if fresh:
            shutil.rmtree(directory)
            private_directory(directory)
        own = directory / self.instance
        own.mkdir(mode=0o700)
        return own

    def socket(self, name: str) -> Path:
        """Return the path for a socket of this name; nothing is there yet."""
        path = self.sockets / f"{name}.sock"
        path.unlink(missing_ok=True)
        return path

    def socket_of(self, identity: Identity, name: str) -> Path:
        """Return the path for a socket that a process of another user shall make, in a directory of that user's."""
        for directory in (self.root, self.sockets.parent, self.sockets):
            directory.chmod(PASSABLE)
        directory = self.sockets / str(identity.uid)
        if not directory.exists():
            directory.mkdir(mode=0o700)
            os.chown(directory, identity.uid, identity.gid)
        return directory / f"{name}.sock"

    def take_over(self, made: Path, identity: Identity) -> Path:
        """Give a socket that another user has made a second name, which is ours to keep; return that.

        Of the user's own directory nothing is believed: a proxy, which is root, must not be led by a symbolic link
        to a socket that the user may not open. Raises :class:`HostError` if it is not a socket of this user.
        """
        ours = self.sockets / made.name
        ours.unlink(missing_ok=True)
        try:
            os.link(made, ours, follow_symlinks=False)
        except OSError as error:
            raise HostError(f"cannot link {made} to {ours}: {error.strerror}") from error
        status = ours.lstat()
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != identity.uid:
            ours.unlink()
            raise HostError(
                f"what is at TQ_SOCKET is no socket of user {identity.name}", remedy="it must listen there itself"
            )
        return ours

    def kill_leftovers(self) -> list[int]:
        """Kill what workers started and let go of (daemons of their own); return the pids."""
        killed: list[int] = []
        for _ in range(_KILL_ROUNDS):  # what is being forked meanwhile is found in the next
            found = kill_all_with(INSTANCE_VARIABLE, self.instance)
            killed += [pid for pid in found if pid not in killed]
            if not found:
                break
        return killed

    def close(self) -> None:
        """Remove the sockets and let go of the lock; the lock file stays, as removing it would race."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        others = [instance for instance in self._instances() if instance != self.instance]
        if others:  # a server that takes over
            (self.root / "instance").write_text("".join(f"{instance}\n" for instance in others))
        else:
            (self.root / "instance").unlink(missing_ok=True)
            admin_socket(self.root.parent).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.sockets.parent.rmdir()
            os.ftruncate(self.lock, 0)
        os.close(self.lock)
