"""What is in the files of a page: digests of all, and the bytes themselves where they are few.

Nearly every page is some files of code, read in less time than it takes to start a thread. But control has one event
loop and one memory for all pages: a page with data beside its code is read in pieces, in a thread, and copied from the
disk, the copy being held to the digest. And there is a bound, since each revision keeps a copy.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.files import Unsettled, refused, unreadable
from tqserver.host import reading
from tqserver.host.threads import Check, in_thread
from tqserver.model.errors import PageError

HELD_BYTES = 4 * 2**20  # of a page: read at once, on the event loop, and kept until it is built
MOST_BYTES = 256 * 2**20  # of a page
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What was in a file. ``held`` are its bytes, None if its page is too large for them to be kept in memory."""

    digest: bytes
    size: int
    executable: bool
    held: bytes | None


class _Beyond(Exception):
    """The files are larger than they may be."""


async def read_contents(files: Iterable[Path]) -> Mapping[Path, Content]:
    """Return what is in every regular file. Raises :class:`PageError` or :class:`Unsettled`."""
    files = tuple(files)
    try:
        return _read(files, HELD_BYTES, hold=True, check=_go_on)
    except _Beyond:
        return await in_thread(lambda check: _read_large(files, check))


def _go_on() -> None:
    """Somebody waits for the result."""


def _read_large(files: Sequence[Path], check: Check) -> Mapping[Path, Content]:
    """Read in pieces, of which none is kept; a file that is far too large is not even begun."""
    sizes = {file: _size(file) for file in files}
    try:
        if sum(sizes.values()) > MOST_BYTES:
            raise _Beyond
        return _read(files, MOST_BYTES, hold=False, check=check)
    except _Beyond:
        raise _too_large(max(sizes, key=sizes.__getitem__)) from None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # reading it says why


def _too_large(largest: Path) -> PageError:
    return refused(
        largest,
        f"the page's files are together larger than {MOST_BYTES >> 20} MiB, and this is the largest; each revision "
        "keeps a copy of them",
        "put large data beside pages/, or into the page's public/ if clients fetch it",
    )


def _read(files: Iterable[Path], most_bytes: int, *, hold: bool, check: Check) -> Mapping[Path, Content]:
    contents: dict[Path, Content] = {}
    for file in files:
        content = _content_of(file, most_bytes, hold=hold, check=check)
        if content is not None:
            contents[file] = content
            most_bytes -= content.size
    return contents


def _content_of(file: Path, most_bytes: int, *, hold: bool, check: Check) -> Content | None:
    """Return what is in a file, None for a socket or a pipe, which is no input."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None
        with reading.opened(file) as descriptor:
            executable = bool(os.fstat(descriptor).st_mode & 0o111)
            hashed, size, held = _new_hash(), 0, list[bytes]()
            for piece in reading.pieces(descriptor):
                check()
                size += len(piece)
                if size > most_bytes:
                    raise _Beyond
                hashed.update(piece)
                if hold:
                    held.append(piece)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(file):
            raise refused(file, "the symbolic link leads nowhere", "mend or remove it") from None
        raise Unsettled(f"{file} has vanished") from None
    except OSError as error:
        raise unreadable(file, "file", error) from error
    return Content(hashed.digest(), size, executable, b"".join(held) if hold else None)


def _new_hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


async def copy_contents(contents: Mapping[Path, Content], top: Path, output: Path) -> None:
    """Copy the files below ``top``, as they were read, to the same places below ``output``.

    Raises :class:`Unsettled` if one that was not held is another now.
    """
    below = {file: content for file, content in contents.items() if file.is_relative_to(top)}
    if all(content.held is not None for content in below.values()):
        _copy_all(below, top, output, _go_on)
    else:
        await in_thread(lambda check: _copy_all(below, top, output, check))


def _copy_all(contents: Mapping[Path, Content], top: Path, output: Path, check: Check) -> None:
    for file, content in contents.items():
        copy = output / file.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if content.held is not None:
            copy.write_bytes(content.held)
        else:
            _copy(file, content, copy, check)
        if content.executable:
            copy.chmod(0o755)


def _copy(file: Path, content: Content, copy: Path, check: Check) -> None:
    """What is written is hashed, not what is on disk before or afterwards: it may change at any moment."""
    hashed, size = _new_hash(), 0
    try:
        with reading.opened(file) as descriptor, copy.open("wb") as written:
            for piece in reading.pieces(descriptor):
                check()
                size += len(piece)
                if size > content.size:
                    break
                hashed.update(piece)
                written.write(piece)
    except (FileNotFoundError, NotADirectoryError, reading.Refused):
        raise Unsettled(f"{file} is no more what it was") from None
    if size != content.size or hashed.digest() != content.digest:
        raise Unsettled(f"{file} changed while it was copied")
