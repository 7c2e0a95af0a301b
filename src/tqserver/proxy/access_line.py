"""One request as a line of the access log: in the Combined Log Format with more behind it, or as JSON.

What a client sent is cut and escaped, so that it can neither end a line nor a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tqserver.proxy.exchange import Exchange, Phase
from tqserver.wire.codec import to_json
from tqserver.wire.headers import is_trace, value_of
from tqserver.wire.http1 import RequestHead

CLIENT_LEFT = 499  # what nginx writes where the client left before there was an answer
MAX_LINE_BYTES = 4096  # PIPE_BUF: so much is written to a pipe at once, or not at all (pipe(7))
_USUAL_VALUE_BYTES, _SHORT_VALUE_BYTES = 2048, 128  # six times the latter, for each of three values, fit into a line
_UNSAFE = re.compile(rb"[^ !#-\[\]-~]")  # all but what is printed, and neither quotes nor escapes
_AGENT = re.compile(rb"\r\n(?i:user-agent):[ \t]*([^\r\n]*)")
_REFERER = re.compile(rb"\r\n(?i:referer):[ \t]*([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class Served:
    """By what a request was answered; ``page`` is empty and ``worker`` 0 if by none."""

    page: str = ""
    revision: int = 0
    worker: int = 0


NOBODY = Served()


def _found(look: Callable[[bytes, int], bytes], head: RequestHead, most: int) -> bytes:
    """Return what ``look`` finds in the lines of a head. Clients repeat theirs, and it is looked for once."""
    if most != _USUAL_VALUE_BYTES:
        return look(head.lines, most)
    if head.described[0] is not look:
        head.described = look, look(head.lines, most)
    return head.described[1]


def as_text(moment: bytes, client: bytes, exchange: Exchange, served: Served, seconds: float) -> bytes:
    """Return a line of the Combined Log Format; behind it: milliseconds, request id, "page", revision, worker."""
    line = _as_text(moment, client, exchange, served, seconds, _USUAL_VALUE_BYTES)
    if len(line) > MAX_LINE_BYTES:
        return _as_text(moment, client, exchange, served, seconds, _SHORT_VALUE_BYTES)
    return line


def _as_text(moment: bytes, client: bytes, exchange: Exchange, served: Served, seconds: float, most: int) -> bytes:
    request = exchange.request
    return b'%b - - [%b] "%b %b HTTP/1.%d" %d %d %b %.1f %b "%b" %d %d\n' % (
        client, moment, request.method, _escaped(request.target, most), request.minor,
        exchange.status or CLIENT_LEFT, exchange.sent_bytes, _found(_referer_and_agent, request, most),
        seconds * 1000, exchange.request_id, _escaped(served.page.encode(), most), served.revision, served.worker,
    )  # fmt: skip


def malformed_as_text(moment: bytes, client: bytes, status: int, request_id: bytes) -> bytes:
    """Return a line for what was no request."""
    return b'%b - - [%b] "-" %d 0 "-" "-" 0.0 %b "-" 0 0\n' % (client, moment, status, request_id)


def _escaped(value: bytes, most: int) -> bytes:
    if not value:
        return b"-"
    if len(value) > most:
        value = value[:most]
    return _UNSAFE.sub(lambda found: b"\\x%02x" % found[0][0], value)


def _referer_and_agent(lines: bytes, most: int) -> bytes:
    """Return these of a head's lines, each in quotes."""
    found = (pattern.search(lines) for pattern in (_REFERER, _AGENT))
    return b" ".join(b'"%b"' % (_escaped(each[1].rstrip(), most) if each else b"-") for each in found)


def as_json(moment: bytes, client: bytes, exchange: Exchange, served: Served, seconds: float) -> bytes:
    """Return an object of JSON on a line."""
    line = _as_json(moment, client, exchange, served, seconds, _USUAL_VALUE_BYTES)
    if len(line) > MAX_LINE_BYTES:
        return _as_json(moment, client, exchange, served, seconds, _SHORT_VALUE_BYTES)
    return line


def _as_json(moment: bytes, client: bytes, exchange: Exchange, served: Served, seconds: float, most: int) -> bytes:
    request = exchange.request
    is_whole = exchange.phase in (Phase.DONE, Phase.TUNNEL)
    return (
        b'{"time":"%b","client":"%b","method":"%b","host":%b,"target":%b,"protocol":"HTTP/1.%d","status":%d,'
        b'"bytes":%d,"duration_ms":%.1f,"request_id":"%b","page":%b,"revision":%d,"worker":%d,"whole":%b%b}\n'
    ) % (
        moment, client, request.method, _quoted(request.host or b"", most), _quoted(request.target, most),
        request.minor, exchange.status or CLIENT_LEFT, exchange.sent_bytes, seconds * 1000, exchange.request_id,
        _quoted(served.page.encode(), most), served.revision, served.worker,
        b"true" if is_whole else b"false", _found(_members, request, most),
    )  # fmt: skip


def _members(lines: bytes, most: int) -> bytes:
    """Return the members of the object that come of a head's lines."""
    agent, referer = (pattern.search(lines) for pattern in (_AGENT, _REFERER))
    trace = value_of(lines, b"traceparent")
    return b"".join((
        b',"user_agent":', _quoted(agent[1].rstrip() if agent else b"", most),
        b',"referer":', _quoted(referer[1].rstrip() if referer else b"", most),
        b',"traceparent":"%b"' % trace if is_trace(trace) else b"",
    ))  # fmt: skip


def malformed_as_json(moment: bytes, client: bytes, status: int, request_id: bytes) -> bytes:
    """Return an object for what was no request."""
    return b'{"time":"%b","client":"%b","status":%d,"request_id":"%b"}\n' % (moment, client, status, request_id)


def _quoted(value: bytes, most: int) -> bytes:
    if _UNSAFE.search(value) is None and len(value) <= most:
        return b'"%b"' % value
    return to_json(value[:most].decode("utf-8", "backslashreplace"))
