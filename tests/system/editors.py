"""The ways in which editors and tools save a file."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_SECONDS = 0.02  # between two writes of one save, so that a half-written file is really there to be seen


def in_place(path: Path, text: str) -> None:
    """VS Code, nano: truncate, write, close."""
    path.write_text(text)


def truncate_two_writes(path: Path, text: str) -> None:
    """A slow writer: between its two writes the file is half of a program."""
    half = len(text) // 2
    with path.open("w") as file:
        file.write(text[:half])
        file.flush()
        time.sleep(PAUSE_SECONDS)
        file.write(text[half:])


def two_opens(path: Path, text: str) -> None:
    """A tool that closes the truncated file and opens it again to write (shell redirections)."""
    path.write_text("")
    path.write_text(text)


def temporary_and_rename(path: Path, text: str) -> None:
    """Atomic save: gedit, Kate, most formatters."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def backup_and_rename(path: Path, text: str) -> None:
    """Vim with backupcopy=no: the old file moves away, for a moment there is none, the backup is removed."""
    backup = path.with_name(path.name + "~")
    path.replace(backup)
    path.write_text(text)
    backup.unlink()


def jetbrains(path: Path, text: str) -> None:
    """JetBrains' safe write: a temporary file, the old one aside, then two renames."""
    temporary = path.with_name(path.name + "___jb_tmp___")
    old = path.with_name(path.name + "___jb_old___")
    temporary.write_text(text)
    path.replace(old)
    temporary.replace(path)
    old.unlink()


def from_elsewhere(path: Path, text: str) -> None:
    """Moved in from a directory that nobody watches (rsync, mv from a checkout)."""
    outside = path.parents[2] / f"_outside_{path.name}"
    outside.write_text(text)
    outside.replace(path)


def sed(path: Path, text: str) -> None:
    """``sed -i``: a temporary file in the same directory, then a rename. Replaces the lines that differ."""
    for number, (old, new) in enumerate(zip(path.read_text().split("\n"), text.split("\n"), strict=True), 1):
        if old != new:
            subprocess.run(["sed", "-i", f"{number}c\\{new}", str(path)], check=True)


def same_second(path: Path, text: str) -> None:
    """A save that leaves the modification time as it was: what a coarse file system's clock shows."""
    before = path.stat()
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
    temporary.replace(path)


SAVES: dict[str, Callable[[Path, str], None]] = {
    "in-place": in_place,
    "truncate-two-writes": truncate_two_writes,
    "two-opens": two_opens,
    "rename": temporary_and_rename,
    "backup-rename": backup_and_rename,
    "jetbrains": jetbrains,
    "from-elsewhere": from_elsewhere,
    "sed": sed,
    "same-second": same_second,
}
