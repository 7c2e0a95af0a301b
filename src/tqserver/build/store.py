"""Artifacts by digest: published whole or not at all, never changed afterwards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path

from tqserver.model.errors import HostError

_SCRATCH = "scratch-"


class Store:
    """A directory of artifacts: ``ab/abcdef.../``. Raises :class:`HostError` if it cannot be made."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot use the store {root}: {error.strerror}", remedy="set workers.temp_dir to a directory"
            ) from error

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

    def collect(self, keep: Set[str]) -> list[str]:
        """Remove the artifacts that nothing refers to; return their digests."""
        removed = []
        for path in self._root.glob("??/*"):
            if path.name not in keep:
                with self.scratch() as grave:  # out of sight at once, even if the removal is cut short
                    path.rename(grave / path.name)
                removed.append(path.name)
        return removed

    def sweep(self) -> None:
        """Remove what a build that was killed left behind."""
        for path in self._root.glob(f"{_SCRATCH}*"):
            shutil.rmtree(path, ignore_errors=True)
