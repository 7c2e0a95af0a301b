"""HTTP/1.1 bodies: where they end, however they were split (RFC 9112 6, 7.1).

What comes behind a body's end is the next message's, so it is found here to the byte and handed back.
"""

from __future__ import annotations

import re

from tqserver.wire.http1 import BadMessage

MAX_CHUNK_LINE_BYTES = 4096  # a chunk's size and extensions
MAX_TRAILER_BYTES = 16384


class LengthBody:
    """A body of a known length. ``done`` once all of it was fed; ``rest`` is what came behind it."""

    __slots__ = ("_remaining", "done", "rest")

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.done = length == 0
        self.rest = b""

    def feed(self, received: bytes) -> bytes:
        """Return what of ``received`` belongs to the body."""
        self._remaining -= len(received)
        if self._remaining > 0:
            return received
        self.done = True
        if self._remaining < 0:
            received, self.rest = received[: self._remaining], received[self._remaining :]
            self._remaining = 0
        return received


class EndlessBody:
    """A body that ends with its connection."""

    __slots__ = ()
    done = False
    rest = b""

    def feed(self, received: bytes) -> bytes:
        """Return all of it."""
        return received


_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")


class ChunkedBody:
    """A chunked body (RFC 9112 7.1), however it was split. Extensions and trailers are dropped."""

    __slots__ = ("_line", "_remaining", "_trailer_bytes", "done", "rest")

    # What comes next, if it is not the ``_remaining`` bytes of a chunk's data:
    _SIZE_LINE = 0
    _CHUNK_END = -1
    _TRAILER_LINE = -2

    def __init__(self) -> None:
        self._line = b""  # the beginning of a line that is not whole yet
        self._remaining = self._SIZE_LINE
        self._trailer_bytes = 0
        self.done = False
        self.rest = b""

    def feed(self, received: bytes) -> bytes:
        """Return the body's bytes in ``received``. Raises :class:`BadMessage`."""
        data = self._line + received if self._line else received
        self._line = b""
        pieces: list[bytes] = []
        position = 0
        while not self.done and position < len(data):
            if self._remaining > 0:
                piece = data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining = self._remaining - len(piece) or self._CHUNK_END
                continue
            end = data.find(b"\n", position) + 1
            if not end:
                self._keep(data[position:])
                break
            self._read_line(data[position:end])
            position = end
        if self.done:
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, line: bytes) -> None:
        if len(line) > (1 if self._remaining == self._CHUNK_END else MAX_CHUNK_LINE_BYTES):
            raise BadMessage("a line of a chunked body is too long")
        self._line = line

    def _read_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise BadMessage("a line of a chunked body ends with LF alone")
        if self._remaining == self._CHUNK_END:
            if line != b"\r\n":
                raise BadMessage("a chunk is longer than its size")
            self._remaining = self._SIZE_LINE
        elif self._remaining == self._TRAILER_LINE:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER_BYTES or b"\r" in line[:-2]:
                raise BadMessage("the trailers are malformed or too long")
            self.done = line == b"\r\n"
        else:
            size = _CHUNK_LINE.fullmatch(line[:-2])
            if size is None or len(line) > MAX_CHUNK_LINE_BYTES:
                raise BadMessage("a chunk's size is malformed")
            self._remaining = int(size[1], 16) or self._TRAILER_LINE


Body = LengthBody | ChunkedBody | EndlessBody

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return ``data``, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
