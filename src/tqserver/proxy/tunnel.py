"""After an upgrade: bytes both ways, untouched.

WebSocket frames towards the client are followed by their headers alone, so that a tunnel that has to end can
say so in between two of them (pitfall 5).
"""

from __future__ import annotations

# RFC 6455 5.2, 7.4.1: a close frame of two bytes with the status 1012 "service restart"
CLOSE_SERVICE_RESTART = b"\x88\x02" + (1012).to_bytes(2, "big")
_LONGEST_HEADER = 14


class FrameBoundary:
    """Follows WebSocket frames in one direction."""

    __slots__ = ("_header", "_payload_left")

    def __init__(self) -> None:
        self._header = b""  # the beginning of a frame's header
        self._payload_left = 0

    def feed(self, data: bytes) -> None:
        """These bytes were passed on."""
        position = 0
        while position < len(data):
            if self._payload_left:
                step = min(self._payload_left, len(data) - position)
                self._payload_left -= step
                position += step
                continue
            known = len(self._header)
            header = self._header + data[position : position + _LONGEST_HEADER - known]
            length = _header_length(header)
            if len(header) < length:
                self._header = header
                return
            self._payload_left = _payload_length(header)
            self._header = b""
            position += length - known

    @property
    def is_between_frames(self) -> bool:
        """Whether the last byte that was fed ended a frame."""
        return not self._payload_left and not self._header


def _header_length(header: bytes) -> int:
    """Return the length of a frame's header as far as its first two bytes tell."""
    if len(header) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(header[1] & 0x7F, 0) + (4 if header[1] & 0x80 else 0)


def _payload_length(header: bytes) -> int:
    short = header[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(header[2 : 4 if short == 126 else 10], "big")
