"""Frames over a socket, on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast

from tqserver.wire.codec import WireError
from tqserver.wire.frames import MAX_FRAME_BYTES, FrameDecoder, frame


def _raise(error: WireError) -> None:
    raise error


class Channel(asyncio.Protocol):
    """One end of a socketpair. Calls ``on_payload`` per frame, then ``on_close`` once.

    Of a peer that says what is no message nothing more is heard. ``on_garbled`` says why; without it, the peer is a
    program of ours and that a defect.

    ``send`` never blocks: what the peer does not read is kept. Frames with descriptors go through
    :meth:`send_with`, on a channel that sends nothing else.
    """

    def __init__(
        self,
        on_payload: Callable[[bytes], None],
        on_close: Callable[[], None],
        on_garbled: Callable[[WireError], None] = _raise,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._on_payload = on_payload
        self._on_close = on_close
        self._on_garbled = on_garbled
        self._decoder = FrameDecoder(max_frame_bytes)
        self._transport: asyncio.WriteTransport | None = None
        self._socket: socket.socket | None = None

    async def attach(self, sock: socket.socket) -> None:
        """Take over the socket and begin to read."""
        sock.setblocking(False)
        self._socket = sock
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio)."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Cut frames out of what came (asyncio)."""
        try:
            for payload in self._decoder.feed(data):
                self._on_payload(payload)
        except WireError as error:
            self._on_garbled(error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner that the peer is gone (asyncio)."""
        self._transport = None
        self._socket = None
        self._on_close()

    @property
    def is_open(self) -> bool:
        """Whether the peer is still there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, payload: bytes) -> None:
        """Send a frame; to a peer that is gone, nothing: ``on_close`` tells of that."""
        if self._transport is not None:
            self._transport.write(frame(payload))

    def send_with(self, payload: bytes, descriptors: Sequence[int]) -> None:
        """Send a frame and descriptors. Raises OSError if the kernel does not take its first byte now."""
        if self._transport is None or self._socket is None:
            raise ConnectionResetError("the peer is gone")
        packet = frame(payload)
        sent = socket.send_fds(self._socket, [packet], list(descriptors))
        if sent < len(packet):
            self._transport.write(packet[sent:])

    def close(self) -> None:
        """Close this end after what was sent."""
        if self._transport is not None:
            self._transport.close()
