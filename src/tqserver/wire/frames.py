"""Frames: four bytes of length, big-endian, then that many bytes.

Over stream sockets; a descriptor that travels with a frame is attached to the first byte of its length.
"""

from __future__ import annotations

from collections.abc import Iterator

from tqserver.wire.codec import WireError

HEADER_BYTES = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_REPORT_FRAME_BYTES = 1024 * 1024  # of a child, whose page may write there whatever it likes


def frame(payload: bytes) -> bytes:
    """Return ``payload`` with its length in front."""
    if len(payload) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def frame_length(header: bytes | bytearray, limit: int = MAX_FRAME_BYTES) -> int:
    """Return the length that a frame's first four bytes announce. Raises :class:`WireError` over the limit."""
    length = int.from_bytes(header, "big")
    if length > limit:
        raise WireError(f"a frame of {length} bytes is over the limit of {limit}")
    return length


class FrameDecoder:
    """Cuts a stream of bytes, however it was split, into payloads."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Add what was received; yield each payload that is complete."""
        self._buffer += received
        while len(self._buffer) >= HEADER_BYTES:
            end = HEADER_BYTES + frame_length(self._buffer[:HEADER_BYTES], self._limit)
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER_BYTES:end])
            del self._buffer[:end]
            yield payload

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)
