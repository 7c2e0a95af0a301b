"""HTTP/1.1 heads: judged, and taken apart into what goes on and what stops here (RFC 9112).

httptools (llhttp) judges every head whole and strictly: bare CR or LF, folded lines, white space before a
colon, two lengths, a length beside a transfer coding are all refused. It is not given bodies: it cannot say
where in the bytes a message ended, and what comes after that is another message's (see :mod:`.bodies`).
"""

from __future__ import annotations

import re
from copy import copy

import httptools

from tqserver.wire import headers
from tqserver.wire.headers import Found


class BadMessage(ValueError):
    """What came is not acceptable HTTP/1. ``status`` is what to tell a client that sent it."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


KEPT_HEAD_BYTES = 4096  # a longer one is not kept to be compared with the next
_NEVER_IN_A_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|(?<!\r)\n|\r(?=[^\n])")


def head_end(received: bytes, searched: int = 0) -> int:
    """Return where the first head in ``received`` ends (behind its empty line), 0 if it is not whole yet.

    ``searched`` bytes were looked at before, without finding an end. Raises :class:`BadMessage` as soon as it
    is clear that no head will come of it (TLS on a plain port, lines that end with LF alone).
    """
    position = received.find(b"\r\n\r\n", max(searched - 3, 0))
    if position >= 0:
        return position + 4
    if _NEVER_IN_A_HEAD.search(received, max(searched - 1, 0)):
        raise BadMessage("not an HTTP/1 head")
    return 0


# --- requests ---------------------------------------------------------------------------------------------


class RequestHead:
    """A request's head, of ``size`` bytes. It is shared by requests that begin alike, so nobody changes it.

    ``lines`` are the field lines that go on as they are (see :func:`headers.part`); all else is in
    attributes. ``content_length`` is -1 if none was given; ``codings`` are the transfer codings, None for
    none. ``upgrade`` is the value of Upgrade if the client asks for one here (RFC 9110 7.8). ``forwarded``
    are X-Forwarded-* and Forwarded. ``described`` is for whoever looks into ``lines`` for each request: who, and what
    was found. It ends with the head, so that no client's fields are kept longer than its connection.
    """

    __slots__ = (
        "codings", "content_length", "described", "expect", "field_count", "forwarded", "host", "keep_alive", "lines",
        "method", "minor", "request_id", "size", "target", "upgrade",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes, minor: int, lines: bytes, size: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.lines = lines
        self.size = size
        self.field_count = 0
        self.host: bytes | None = None
        self.keep_alive = minor == 1
        self.content_length = -1
        self.codings: tuple[bytes, ...] | None = None
        self.upgrade = b""
        self.expect = b""
        self.request_id = b""
        self.forwarded: tuple[tuple[bytes, bytes], ...] = ()
        self.described: tuple[object, bytes] = (None, b"")

    def repeated(self, method: bytes, target: bytes, size: int) -> RequestHead:
        """Return the head of another request with the same fields."""
        head = RequestHead(method, target, self.minor, self.lines, size)
        head.field_count = self.field_count
        head.host = self.host
        head.keep_alive = self.keep_alive
        head.content_length = self.content_length
        head.codings = self.codings
        head.upgrade = self.upgrade
        head.expect = self.expect
        head.request_id = self.request_id
        head.forwarded = self.forwarded
        head.described = self.described
        return head

    @property
    def has_body(self) -> bool:
        """Whether anything that belongs to this request follows its head."""
        return self.content_length > 0 or self.codings is not None

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")
_OTHER_VERSION = re.compile(rb"[^ \r\n]+ [^ \r\n]+ HTTP/(?!1\.[01])[0-9]\.[0-9]\r\n")
_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}


def _judge_request(raw: bytes) -> None:
    """Raise :class:`BadMessage` unless ``raw`` is a request head.

    llhttp takes ``GET /?q`` LF for a whole request line, of HTTP/0.9, and what is behind it for a field.
    """
    if raw.find(b"\n") != raw.find(b"\r\n") + 1:
        raise BadMessage("the request line ends with LF alone")
    parser = httptools.HttpRequestParser(None)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is whole; what follows it is not the parser's
    except httptools.HttpParserInvalidMethodError as error:
        status = 501 if _METHOD.match(raw) else 400
        raise BadMessage("the method is unknown", status) from error
    except httptools.HttpParserError as error:
        raise BadMessage(str(error), 505 if _OTHER_VERSION.match(raw) else 400) from error


def parse_request_head(raw: bytes) -> RequestHead:
    """Parse one head, from its first byte to its empty line. Raises :class:`BadMessage`."""
    _judge_request(raw)
    start, lines, found = headers.part(raw, headers.REQUEST_STOPS)
    try:
        method, target, version = start.split(b" ")
        minor = _VERSIONS[version]
    except ValueError:
        raise BadMessage("the request line is not of three words") from None  # RFC 9112 3
    except KeyError:
        raise BadMessage("only HTTP/1.0 and HTTP/1.1 are spoken here", 505) from None
    head = RequestHead(method, target, minor, lines, len(raw))
    head.field_count = raw.count(b"\r\n") - 2  # the request line's, the empty line's
    _read_request_fields(head, found)
    if not target.startswith(b"/"):
        _read_absolute_target(head)
    if b"#" in target:
        raise BadMessage("a fragment is not part of a request's target")
    return head


class RequestReader:
    """Reads the heads that come on one connection.

    Clients repeat themselves from request to request (HPACK is built on that, RFC 7541). A head that is the
    last one again, byte for byte, was judged then and is not judged again. One of which only the request line
    is another is judged again, but its fields are not taken apart again.
    """

    __slots__ = ("_fields_at", "_head", "_raw")

    def __init__(self) -> None:
        self._raw = b""  # the last head whose target was a path
        self._fields_at = 0  # in it: its version, and all that follows
        self._head: RequestHead

    def read(self, received: bytes, searched: int = 0) -> RequestHead | None:
        """Return the head that ``received`` begins with, None if it is not whole yet. Raises :class:`BadMessage`.

        ``searched`` bytes were looked at before, without finding its end.
        """
        if self._raw and received.startswith(self._raw):  # which ends with the only empty line in it
            return self._head
        end = head_end(received, searched)
        return self._judge(received[:end]) if end else None

    def _judge(self, raw: bytes) -> RequestHead:
        line = raw[: raw.find(b"\r\n")]
        words = line.split(b" ")
        fields_at = len(line) - len(words[-1])
        is_path = len(words) == 3 and words[1].startswith(b"/")
        if is_path and b"#" not in words[1] and raw[fields_at:] == self._raw[self._fields_at :]:
            _judge_request(raw)
            head = self._head.repeated(words[0], words[1], len(raw))
        else:
            head = parse_request_head(raw)
        if is_path and len(raw) <= KEPT_HEAD_BYTES:
            self._raw, self._fields_at, self._head = raw, fields_at, head
        return head


def _read_request_fields(head: RequestHead, found: Found) -> None:
    """Take note of what stops here; lines of one name are one list (RFC 9110 5.3)."""
    upgrade = b""
    options = None
    codings: list[bytes] | None = None
    expected: list[bytes] = []
    forwarded = []
    for spelled, padded in found:
        name, value = spelled.lower(), padded.rstrip()
        if name == b"host":
            if head.host is not None or not headers.is_host(value):
                raise BadMessage("one valid Host is required")  # RFC 9112 3.2
            head.host = value
        elif name == b"connection":
            options = value if options is None else options + b"," + value
        elif name == b"content-length":
            head.content_length = int(value)
        elif name == b"transfer-encoding":
            codings = codings if codings is not None else []
            codings += headers.tokens(value)
        elif name == b"expect":
            expected.append(value.lower())
        elif name == b"x-request-id":
            head.request_id = value if headers.is_request_id(value) else b""
        elif name == b"upgrade":
            upgrade = value
        elif name.startswith((b"x-forwarded-", b"forwarded")) and b"_" not in name:
            forwarded.append((name, value))
    head.forwarded = tuple(forwarded)
    head.expect = b", ".join(expected)
    head.codings = None if codings is None else tuple(codings)
    if head.minor == 1 and head.host is None:
        raise BadMessage("Host is missing")
    if head.codings is not None and head.minor == 0:
        raise BadMessage("HTTP/1.0 has no transfer codings")  # RFC 9112 6.1: the framing is faulty
    if options is not None:
        _obey_connection(head, options)
        if upgrade and head.minor == 1:
            _read_upgrade(head, options, upgrade)


def _read_upgrade(head: RequestHead, options: bytes, upgrade: bytes) -> None:
    """Pass on a wish to upgrade, unless what follows could not be told apart.

    A switch to HTTP/2 would hide requests from the proxy; a body would be read as the new protocol.
    """
    if b"upgrade" in headers.tokens(options) and b"h2c" not in headers.tokens(upgrade) and not head.has_body:
        head.upgrade = upgrade


def _read_absolute_target(head: RequestHead) -> None:
    """``GET http://host/path``: the target's host counts and Host does not (RFC 9112 3.2.2)."""
    if head.target == b"*" or head.method == b"CONNECT":
        return
    _, _, rest = head.target.partition(b"://")
    host = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    if not host or not headers.is_host(host):
        raise BadMessage("the target is not a path")
    path = rest[len(host) :]
    head.host = host
    head.target = path if path.startswith(b"/") else b"/" + path


def _obey_connection(head: RequestHead | ResponseHead, options: bytes) -> None:
    """Take away the fields that Connection names (RFC 9110 7.6.1), and note whether it shall stay open."""
    known = headers.connection_options(options)
    if known.nominated:
        head.lines = headers.without(head.lines, known.nominated)
    if known.keep_alive is not None:
        head.keep_alive = known.keep_alive


# --- responses --------------------------------------------------------------------------------------------


class ResponseHead:
    """A response's head, of ``size`` bytes. It is shared by responses that begin alike, so nobody changes it.

    ``reason`` is what stands behind the version, b" 200 OK". ``content_length`` is -1 if none was given;
    ``chunked`` and it exclude each other; neither means that the body ends with the connection.
    """

    __slots__ = (
        "chunked", "content_length", "date", "keep_alive", "lines", "minor", "reason", "size", "status", "upgrade",
    )  # fmt: skip

    def __init__(self, status: int, reason: bytes, minor: int, lines: bytes, size: int) -> None:
        self.size = size
        self.status = status
        self.reason = reason
        self.minor = minor
        self.keep_alive = minor == 1
        self.lines = lines
        self.content_length = -1
        self.chunked = False
        self.date = b""
        self.upgrade = b""

    def with_lines(self, lines: bytes) -> ResponseHead:
        """Return this head with other field lines."""
        head = copy(self)
        head.lines = lines
        return head


_REASON = re.compile(rb"[\t -~\x80-\xff]*")  # RFC 9112 4; llhttp takes any byte


def parse_response_head(raw: bytes) -> ResponseHead:
    """Parse one head, from its first byte to its empty line. Raises :class:`BadMessage`."""
    parser = httptools.HttpResponseParser(None)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadMessage(str(error)) from error
    status = parser.get_status_code()
    start, lines, found = headers.part(raw, headers.RESPONSE_STOPS)
    minor = _VERSIONS.get(start[:8])
    if minor is None or not 100 <= status <= 599 or not _REASON.fullmatch(start, 8):
        raise BadMessage("not an HTTP/1 response")
    head = ResponseHead(status, start[8:], minor, lines, len(raw))
    _read_response_fields(head, found)
    return head


class ResponseReader:
    """Reads the heads that come on one connection.

    Workers repeat themselves too: a head that is the last one again, Date and all, is not judged again.
    """

    __slots__ = ("_head", "_raw")

    def __init__(self) -> None:
        self._raw = b""
        self._head: ResponseHead

    def read(self, received: bytes, searched: int = 0) -> ResponseHead | None:
        """Return the head that ``received`` begins with, None if it is not whole yet. Raises :class:`BadMessage`.

        ``searched`` bytes were looked at before, without finding its end.
        """
        if self._raw and received.startswith(self._raw):
            return self._head
        end = head_end(received, searched)
        if not end:
            return None
        raw = received[:end]
        head = parse_response_head(raw)
        if end <= KEPT_HEAD_BYTES:
            self._raw, self._head = raw, head
        return head


def _read_response_fields(head: ResponseHead, found: Found) -> None:
    options = None
    for spelled, padded in found:
        name, value = spelled.lower(), padded.rstrip()
        if name == b"content-length":
            head.content_length = int(value)
        elif name == b"date":
            head.date = value
        elif name == b"transfer-encoding":
            if head.chunked or headers.tokens(value) != [b"chunked"]:
                raise BadMessage("only the transfer coding chunked is understood")
            head.chunked = True
        elif name == b"connection":
            options = value if options is None else options + b"," + value
        elif name == b"upgrade":
            head.upgrade = value
    if options is not None:
        _obey_connection(head, options)
