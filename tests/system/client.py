"""HTTP/1.1 and WebSocket as a client speaks them: nothing is retried, repaired or guessed."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Connection:
    """One connection. A response that is short, or a connection that breaks, raises."""

    def __init__(self, port: int, timeout_seconds: float = TIMEOUT_SECONDS, tls: ssl.SSLContext | None = None) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
        if tls is not None:
            self._http = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_seconds, context=tls)
        self._http.connect()
        self._http.auto_open = 0  # a closed connection is an error here, not something to hide
        self.is_open = True

    def request(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole response."""
        response = self.begin(path, method, body, headers)
        content = response.read()
        length = response.getheader("content-length")
        if method != "HEAD" and length is not None and len(content) != int(length):
            raise http.client.IncompleteRead(content, int(length) - len(content))
        if response.will_close:
            self.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, names)

    def begin(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request and return the response once its head is there."""
        self._http.request(method, path, body=body, headers=dict(headers or {}))
        return self._http.getresponse()

    def close(self) -> None:
        self.is_open = False
        self._http.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch(
    port: int,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once, on a connection of its own."""
    with Connection(port, tls=tls) as connection:
        return connection.request(path, method, body, headers)


def exchange(port: int, sent: bytes, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """Send bytes as they are and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


class WebSocket:
    """A client of RFC 6455: text and close frames, unfragmented, below 64 KiB."""

    TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

    def __init__(self, port: int, path: str, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._buffer = b""
        head = self._until(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1])
        if self.status != 101:
            raise ConnectionError(head.decode(errors="replace"))

    def send(self, text: str) -> None:
        """Send a text message (client frames are masked: RFC 6455 section 5.3)."""
        payload, mask = text.encode(), os.urandom(4)
        head = struct.pack("!BB", 0x80 | self.TEXT, 0x80 | min(len(payload), 126))
        if len(payload) >= 126:
            head += struct.pack("!H", len(payload))
        self._socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def receive(self) -> str | int:
        """Return the next text message, or the code of a close frame."""
        while True:
            first, second = self._exactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self._exactly(2))
            payload = self._exactly(length)
            match first & 0x0F:
                case self.TEXT:
                    return payload.decode()
                case self.CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
                case _:
                    continue

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("closed without a close frame")
        self._buffer += received

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        taken, self._buffer = self._buffer.split(end, 1)
        return taken
