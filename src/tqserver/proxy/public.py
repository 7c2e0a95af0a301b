"""The files of a page's ``public/``: which one a path asks for, and how it is answered. Pure.

Where they lie is asked of the disk at each request (see :mod:`.files`), so an edit is live at once and there is
nothing to forget. Why so, and what is not done: docs/decisions/0016.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tqserver.model.routing import normalise
from tqserver.wire import conditions, headers
from tqserver.wire.conditions import Unsatisfiable, Validators
from tqserver.wire.http1 import RequestHead, ResponseHead
from tqserver.wire.media import is_compressible, media_type

CODINGS = {b"br": b".br", b"gzip": b".gz"}  # and what a file's name ends with; the better first
WELL_KNOWN = b".well-known"  # RFC 8615: the one hidden name that is meant for everybody
_ASKED = conditions.NAMES | {b"accept-encoding"}
_REASONS = {
    200: b" 200 OK",
    206: b" 206 Partial Content",
    304: b" 304 Not Modified",
    412: b" 412 Precondition Failed",
    416: b" 416 Range Not Satisfiable",
}
# Stored by whoever likes, and used only after it was asked whether it still holds: what is edited is live at once.
_ALWAYS = b"\r\nCache-Control: no-cache"


class PublicDirectory:
    """The ``public/`` of a page, at ``path``; ``pattern`` is the page's."""

    __slots__ = ("_depth", "path")

    def __init__(self, path: str, pattern: str) -> None:
        self.path = os.fsencode(path)
        # "/users/[id]" takes two segments off a path; [...rest] takes none: what it stands for names the file.
        self._depth = sum(not segment.startswith("[...") for segment in pattern.split("/") if segment)

    def name_of(self, request: RequestHead) -> bytes | None:
        """Return what a request may ask for, as a path below the directory; None for what is the page's to answer."""
        if request.method not in (b"GET", b"HEAD") or request.path.endswith(b"/"):
            return None
        normal = normalise(request.path.decode("latin-1"))
        segments = normal.encode().split(b"/")[self._depth + 1 :] if normal is not None else []
        name = b"/".join(segments)
        return name if name and not is_hidden(name) else None


def is_hidden(name: bytes) -> bool:
    """Tell whether a path names something that is not for everybody, in a directory that is."""
    return any(part.startswith(b".") and part != WELL_KNOWN for part in name.split(b"/"))


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a file, as the system tells it. Times are nanoseconds since the epoch."""

    size: int
    modified: int
    changed: int
    inode: int

    def validators(self, now: float) -> Validators:
        """Return what tells it from others.

        st_ctime is in the tag since no program can set it: st_mtime is the same for all files of some archives.
        """
        etag = b'"%x-%x-%x"' % (self.inode, self.size, self.changed)
        return Validators(etag, min(self.modified // 1_000_000_000, int(now)))  # RFC 9110 8.8.2.1: not in the future


class Asked:
    """What a request asks for besides a name."""

    __slots__ = ("_fields", "_is_head")

    def __init__(self, request: RequestHead) -> None:
        self._fields = headers.values_of(request.lines, _ASKED)
        self._is_head = request.method == b"HEAD"

    def codings(self, name: bytes) -> list[bytes]:
        """Return the codings in which the file of this name may be answered, the best first."""
        accepted = self._fields.get(b"accept-encoding")
        if accepted is None or not is_compressible(os.fsdecode(name)):
            return []
        return headers.accepted_codings(accepted, list(CODINGS))

    def answer(self, name: bytes, version: Version, coding: bytes, now: float) -> Answer:
        """Return how a file is answered. ``coding``: this is the version of it that is compressed so."""
        validators = version.validators(now)
        about = b"\r\nETag: " + validators.etag + _ALWAYS
        if is_compressible(os.fsdecode(name)):
            about += b"\r\nVary: Accept-Encoding"
        status = conditions.judge(self._fields, validators)
        if status is not None:
            return _bodiless(status, about)
        part = None
        if not self._is_head:  # RFC 9110 14.2: a range is for GET
            try:
                part = conditions.asked_range(self._fields, validators, version.size, now)
            except Unsatisfiable:
                return _bodiless(416, b"\r\nContent-Range: bytes */%d" % version.size + _ALWAYS)
        about += b"\r\nLast-Modified: " + validators.last_modified + b"\r\nAccept-Ranges: bytes"
        about += b"\r\nContent-Type: " + media_type(os.fsdecode(name)) + b"\r\nX-Content-Type-Options: nosniff"
        if coding:
            about += b"\r\nContent-Encoding: " + coding
        if part is not None:
            about += b"\r\nContent-Range: bytes %d-%d/%d" % (part.start, part.stop - 1, version.size)
            return Answer(_head(206, about, len(part)), part)
        return Answer(_head(200, about, version.size), range(0 if self._is_head else version.size))


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, and which bytes of the file are its body."""

    head: ResponseHead
    part: range


def _bodiless(status: int, lines: bytes) -> Answer:
    return Answer(_head(status, lines, -1 if status == 304 else 0), range(0))


def _head(status: int, lines: bytes, length: int) -> ResponseHead:
    head = ResponseHead(status, _REASONS[status], 1, lines, 0)
    head.content_length = length
    return head
