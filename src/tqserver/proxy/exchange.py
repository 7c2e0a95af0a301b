"""One request, from its head to the last byte of its response. The spine of the proxy.

Pure: bytes and decisions only. The methods stand in the order in which things happen; ``downstream`` and
``upstream`` call them and move what they return.

    received -> upstream_head -> (lost: retry or give up) -> response_head -> body -> finished
"""

from __future__ import annotations

import enum

from tqserver.wire.headers import FORWARDING, HOP_BY_HOP, Fields, is_request_id, tokens
from tqserver.wire.http1 import chunk

KEPT_BODY_BYTES = 65536  # of a request's body, so that it can be sent again
MOST_TRIES = 4
# RFC 9110 9.2.2: doing it twice is as doing it once.
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})


class AfterLoss(enum.Enum):
    """What to do when a worker's connection is lost."""

    RETRY = "retry"  # nothing was answered and the request can be sent again
    REPLY = "reply"  # nothing was answered; the client gets 502
    ABORT = "abort"  # part of a response was sent: cut it short, never end it cleanly


class Exchange:
    """A request and its response."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_close_after",
        "fields",
        "is_chunked_up",
        "is_upgrade",
        "keep_alive",
        "method",
        "out_chunked",
        "out_until_close",
        "path",
        "received",
        "request_id",
        "response_begun",
        "response_done",
        "sent_upstream",
        "status",
        "target",
        "tried",
        "tries",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = ""
        self.version = "1.1"
        self.fields: Fields = []
        self.request_id = b""
        self.keep_alive = True
        self.is_upgrade = False
        self.is_chunked_up = False
        self.received = False  # the whole request has come
        self.sent_upstream = False  # at least its head has been written to a worker
        self.response_begun = False
        self.response_done = False
        self.out_chunked = False
        self.out_until_close = False
        self.status = 0
        self.tries = 0
        self.tried: set[int] = set()  # workers that refused it
        self._body: list[bytes] | None = []  # None: too much of it to keep
        self._body_bytes = 0
        self._close_after = False

    # --- the request --------------------------------------------------------------------------------------

    def head_received(self, method: bytes, version: str, keep_alive: bool, upgrade: bool, new_id: bytes) -> None:
        """The head is complete."""
        self.method, self.version, self.keep_alive, self.is_upgrade = method, version, keep_alive, upgrade
        for name, value in self.fields:
            if name == b"transfer-encoding":
                self.is_chunked_up = True
            elif name == b"x-request-id" and is_request_id(value):
                self.request_id = value
        if not self.request_id:
            self.request_id = new_id

    def body_received(self, body: bytes) -> bytes:
        """Keep a part of the body for a second try; return it as it goes upstream."""
        self._body_bytes += len(body)
        framed = chunk(body) if self.is_chunked_up else body
        if self._body is not None:
            self._body.append(framed)
            if self._body_bytes > KEPT_BODY_BYTES and self.sent_upstream:
                self._body = None
        return framed

    @property
    def body_bytes(self) -> int:
        """How much of the body has come."""
        return self._body_bytes

    def kept_body(self) -> bytes:
        """Return what has come of the body, to be sent after the head."""
        body = b"".join(self._body or ())
        if self._body_bytes > KEPT_BODY_BYTES:
            self._body = None
        return body

    def expects_continue(self) -> bool:
        """Tell whether the client waits for 100 before it sends its body (RFC 9110 10.1.1)."""
        return self.version == "1.1" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self.fields
        )

    def upstream_head(self, forwarded: bytes, trusted: bool) -> bytes:
        """Return the head for the worker, rebuilt from what was parsed.

        ``forwarded`` are this proxy's own X-Forwarded-For and -Proto lines; a trusted peer's fields stay.
        """
        dropped = HOP_BY_HOP
        for name, value in self.fields:
            if name == b"connection":
                dropped = dropped | tokens(value)  # RFC 9110 7.6.1: the fields that it names
        lines = [b"%b %b HTTP/1.1\r\n" % (self.method, self.target)]
        host = b""
        has_forwarding = False
        for name, value in self.fields:
            if name in dropped or name in (b"x-request-id", b"expect"):
                continue
            if name in FORWARDING:
                if not trusted:
                    continue
                has_forwarding = True
            if name == b"host":
                host = value
            lines.append(b"%b: %b\r\n" % (name, value))
        if not has_forwarding:
            lines.append(forwarded + b"x-forwarded-host: %b\r\n" % host)
        if self.is_chunked_up:
            lines.append(b"transfer-encoding: chunked\r\n")
        if self.is_upgrade:
            upgrade = next((value for name, value in self.fields if name == b"upgrade"), b"")
            lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade)
        lines.append(b"x-request-id: %b\r\n\r\n" % self.request_id)
        return b"".join(lines)

    # --- losses -------------------------------------------------------------------------------------------

    def lost(self, *, written: bool) -> AfterLoss:
        """The worker's connection is lost; ``written``: something of the request was written to it."""
        if self.response_begun:
            return AfterLoss.ABORT
        self.tries += 1
        can_repeat = not written or (self.method in _IDEMPOTENT and self._body is not None)
        return AfterLoss.RETRY if can_repeat and self.tries < MOST_TRIES else AfterLoss.REPLY

    # --- the response -------------------------------------------------------------------------------------

    def response_head(self, status: int, reason: bytes, fields: Fields, *, leaving: bool) -> bytes:
        """Return the head for the client, and decide how the body is framed."""
        self.status = status
        self.response_begun = True
        dropped = HOP_BY_HOP
        has_length = False
        for name, value in fields:
            if name == b"connection":
                dropped = dropped | tokens(value)
            elif name == b"content-length":
                has_length = True
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
        lines += [b"%b: %b\r\n" % field for field in fields if field[0] not in dropped and field[0] != b"x-request-id"]
        has_body = self.method != b"HEAD" and status not in (204, 304)
        if has_body and not has_length:
            if self.version == "1.1":
                self.out_chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.out_until_close = True  # RFC 9112 6.3: an HTTP/1.0 client knows no chunks
        self._close_after = leaving or self.out_until_close or not self.keep_alive or not self.received
        if self._close_after:
            lines.append(b"connection: close\r\n")
        elif self.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"x-request-id: %b\r\n\r\n" % self.request_id)
        return b"".join(lines)

    def switching_head(self, reason: bytes, fields: Fields) -> bytes:
        """Return the 101 response: from here on both sides are a tunnel (RFC 9110 7.8)."""
        self.response_begun = True
        self.status = 101
        lines = [b"%b: %b\r\n" % field for field in fields]
        return b"HTTP/1.1 101 %b\r\n" % reason + b"".join(lines) + b"\r\n"

    def framed(self, body: bytes) -> bytes:
        """Return a part of the response's body as it goes to the client."""
        return chunk(body) if self.out_chunked else body

    def finished(self) -> bool:
        """The response is complete; tell whether the connection is closed after it."""
        self.response_done = True
        return self._close_after
