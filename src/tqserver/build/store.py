"""Artifacts by digest: published whole or not at all, never changed afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqserver.host.private import PASSABLE, private_directory
from tqserver.model.errors import HostError

_SCRATCH = "scratch-"


def store_directory(project: Path, temp_dir: str | None, otherwise: Path) -> Path:
    """Return where a project's artifacts are: in ``workers.temp_dir`` if it is set.

    Outside the project that may be a directory that others are given too, so there each project has one of its own:
    what one does not refer to must not vanish under another.
    """
    top = Path(os.path.normpath(project / temp_dir)) if temp_dir else otherwise
    if top.is_relative_to(project):
        return top / "store"
    return top / ("tqserver-" + hashlib.sha256(os.fsencode(project)).hexdigest()[:16])


class Store:
    """A directory of artifacts: ``ab/abcdef.../``. Raises :class:`HostError` if it cannot be made, or is another's."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            private_directory(root)
        except HostError as error:
            remedy = f"{error.remedy}; or set workers.temp_dir to another directory"
            raise HostError(error.message, remedy=remedy) from error

    def path_of(self, digest: str) -> Path:
        """Return where the artifact of this digest is or would be."""
        return self._root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Tell whether the artifact is there, whole."""
        return self.path_of(digest).is_dir()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty directory on the store's filesystem; what is left in it afterwards is removed."""
        directory = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._root))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, directory: Path, digest: str) -> Path:
        """Make a directory of this filesystem the artifact, by one rename; one that is there is kept."""
        path = self.path_of(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            directory.rename(path)
        except OSError:
            if not self.has(digest):
                raise
        return path

    def grant(self, digest: str, gid: int) -> None:
        """Let a group read an artifact, whose own directory alone bars the others; what two need, all may read."""
        path = self.path_of(digest)
        status = path.stat()
        if status.st_mode & stat.S_IRGRP:
            if status.st_gid != gid:
                path.chmod(0o755)
            return
        for directory in (self._root, path.parent):
            directory.chmod(PASSABLE)
        for file in path.rglob("*"):
            file.chmod(file.stat().st_mode | (0o555 if file.is_dir() else 0o444))
        os.chown(path, -1, gid)
        path.chmod(0o750)

    def digests(self) -> frozenset[str]:
        """Return the digests of all artifacts."""
        prefixes = [name for name in os.listdir(self._root) if len(name) == 2]
        return frozenset(digest for prefix in prefixes for digest in os.listdir(self._root / prefix))

    def set_aside(self, digests: Iterable[str]) -> Path:
        """Put artifacts out of sight, one rename each; return the directory for :meth:`destroy`."""
        grave = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self._root))
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                self.path_of(digest).rename(grave / digest)
        return grave

    def destroy(self, grave: Path) -> None:
        """Remove what was set aside; if it is cut short, :meth:`sweep` does it."""
        shutil.rmtree(grave, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a build that was killed left behind."""
        for path in self._root.glob(f"{_SCRATCH}*"):
            shutil.rmtree(path, ignore_errors=True)
