"""A file on its way to a client: the kernel copies it, piece by piece, as fast as the client reads.

The head and the first bytes go through the connection's transport, as all else does. What is left goes beside it,
on a duplicate of its descriptor, and only while the transport itself has nothing to write: no byte overtakes another,
and of a large file nothing is held here. A connection that is encrypted in this process has its pieces read and written
instead.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from tqserver.proxy.files import PublicFile

if TYPE_CHECKING:
    from tqserver.proxy.relay import Relay

FIRST_BYTES = 64 * 1024  # what is not larger is one write, with its head
PIECE_BYTES = 256 * 1024  # in one turn of the event loop, so that others have theirs


class Sending:
    """Sends what a file is answered with; tells the relay of every piece, and of the end."""

    __slots__ = ("_at", "_end", "_file", "_is_encrypted", "_relay", "_socket", "_transport")

    def __init__(self, file: PublicFile, relay: Relay, transport: asyncio.Transport) -> None:
        self._file = file
        self._relay = relay
        self._transport = transport
        self._at = file.answer.part.start
        self._end = file.answer.part.stop
        self._is_encrypted = transport.get_extra_info("sslcontext") is not None
        self._socket = -1  # the duplicate, once it is needed

    def begin(self, head: bytes) -> None:
        """Send the head and the first bytes."""
        try:
            first = self._read(FIRST_BYTES)
        except OSError as error:
            self._relay.file_failed(f"the file cannot be read: {error.strerror}")
            return
        self._transport.write(head + first)
        self._went_on(len(first))

    def _read(self, most: int) -> bytes:
        length = min(most, self._end - self._at)
        return os.pread(self._file.descriptor, length, self._at) if length else b""

    def _went_on(self, sent: int) -> None:
        self._at += sent
        self._relay.file_goes_on(sent)
        if self._at == self._end:
            self._relay.file_sent()
        elif sent == 0:
            self._relay.file_failed("the file has become shorter")
        elif not self._transport.is_closing():  # then its end is told in a moment, and its descriptor is gone
            self._go_on_when_it_takes_more()

    def _go_on_when_it_takes_more(self) -> None:
        if self._socket < 0:
            # A descriptor is free for it: that of the directory, by which the file was found.
            self._socket = os.dup(self._transport.get_extra_info("socket").fileno())
            asyncio.get_running_loop().add_writer(self._socket, self._go_on)

    def _go_on(self) -> None:
        """The client can take more (asyncio)."""
        if self._transport.get_write_buffer_size():
            return  # what was written before goes first
        try:
            sent = self._send_piece()
        except BlockingIOError:
            return
        except ConnectionError:
            self._transport.abort()  # the client is gone
            return
        except OSError as error:
            self._relay.file_failed(f"the file cannot be sent: {error.strerror}")
            return
        self._went_on(sent)

    def _send_piece(self) -> int:
        if self._is_encrypted:
            self._transport.write(piece := self._read(FIRST_BYTES))
            return len(piece)
        length = min(PIECE_BYTES, self._end - self._at)
        return os.sendfile(self._socket, self._file.descriptor, self._at, length)

    def stop(self) -> None:
        """Send no more: it is whole, or nobody wants it."""
        if self._socket >= 0:
            asyncio.get_running_loop().remove_writer(self._socket)
            os.close(self._socket)
        self._file.close()
