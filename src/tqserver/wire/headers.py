"""Field names and values: which go on, which stop here.

A head is never taken apart field by field. Those that stop at a proxy are looked for; the lines between them
are copied as they came, in their order. That is sound only for a head that http1 has validated: every CRLF in
it begins a field line, and no line is folded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Found = Iterable[tuple[bytes, bytes]]
"""Fields that were taken out, in their order: name as it came, value with perhaps white space behind it."""

# RFC 9110 7.6.1: what belongs to one connection and not to the message. Trailers are not forwarded, so their
# announcements (Trailer, TE: trailers) are not either.
_HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)


def _lines_named(*names: str, also: str = "") -> re.Pattern[bytes]:
    """Return a pattern for these field lines; names are regular expressions in lower case, ``also`` one for others.

    The first letter is looked at before all else: most lines are none of these, and that decides quickly.
    """
    initials = "".join(sorted({name[0] for name in names}))
    name = f"(?=[{initials}{initials.upper()}])(?i:{'|'.join(names)}){also and '|' + also}"
    return re.compile(f"\\r\\n({name}):[ \\t]*([^\\r\\n]*)".encode())


# CGI, WSGI, PHP and Rack take "_" and "-" of a name for the same: X_Forwarded_For would pass for a field of the proxy.
_WITH_UNDERSCORE = r"[^:_\r\n]*_[^:\r\n]*"
REQUEST_STOPS = _lines_named(
    *_HOP_BY_HOP, "content-length", "expect", "host", r"x-forwarded-[^:_\r\n]*", "forwarded", "x-request-id",
    also=_WITH_UNDERSCORE,
)  # fmt: skip
RESPONSE_STOPS = _lines_named(*_HOP_BY_HOP, "content-length", "x-request-id", "date")


def part(head: bytes, stops: re.Pattern[bytes]) -> tuple[bytes, bytes, Found]:
    """Part a head into its start line, the field lines that go on, and the fields that stop here.

    ``head`` ends with the empty line. Each line that goes on keeps its CRLF in front and has none behind, so
    runs of them can be joined as they are.
    """
    pieces = stops.split(head)  # a run that goes on, a name, a value, a run, a name, ...
    kept = b"".join(pieces[::3])[:-4]
    end = kept.find(b"\r\n")
    if end < 0:
        end = len(kept)
    return kept[:end], kept[end:], zip(pieces[1::3], pieces[2::3], strict=True)


def without(lines: bytes, names: Iterable[bytes]) -> bytes:
    """Return field lines without those of these names, which are in lower case."""
    unwanted = frozenset(names)
    return b"".join(
        b"\r\n" + line for line in lines.split(b"\r\n") if line and line.partition(b":")[0].lower() not in unwanted
    )


def value_of(lines: bytes, name: bytes) -> bytes:
    """Return the values of all fields of this name (in lower case), joined as one list (RFC 9110 5.2)."""
    values = []
    for line in lines.split(b"\r\n"):
        field, _, content = line.partition(b":")
        if field.lower() == name:
            values.append(content.strip())
    return b", ".join(values)


def values_of(lines: bytes, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the values of the fields of these names (in lower case) that are there, each as :func:`value_of`."""
    values: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n"):
        field, _, content = line.partition(b":")
        name = field.lower()
        if name in names:
            values[name] = values[name] + b", " + content.strip() if name in values else content.strip()
    return values


def is_event_stream(lines: bytes) -> bool:
    """Tell whether these are the fields of server-sent events (HTML 9.2), which go on as long as somebody listens."""
    return value_of(lines, b"content-type").partition(b";")[0].strip().lower() == b"text/event-stream"


_TRACE = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def is_trace(value: bytes) -> bool:
    """Tell whether a traceparent is well formed, and so fit for a log (W3C Trace Context 3.2, version 00)."""
    return _TRACE.fullmatch(value) is not None


def tokens(content: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case (RFC 9110 5.6.1)."""
    return [token for token in (part.strip() for part in content.lower().split(b",")) if token]


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What a Connection field says: the fields it names, and whether the connection shall stay open."""

    nominated: frozenset[bytes]
    keep_alive: bool | None


@lru_cache(maxsize=256)
def connection_options(content: bytes) -> ConnectionOptions:
    """Read a Connection field (RFC 9110 7.6.1); "close" beats "keep-alive"."""
    options = frozenset(tokens(content))
    keep_alive = False if b"close" in options else True if b"keep-alive" in options else None
    return ConnectionOptions(options - {b"close", b"keep-alive", b"upgrade"}, keep_alive)


_IPV4 = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def is_request_id(content: bytes) -> bool:
    """Tell whether a client's X-Request-Id can be put into logs and heads as it is."""
    return _REQUEST_ID.fullmatch(content) is not None


_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")


@lru_cache(maxsize=1024)
def is_host(content: bytes) -> bool:
    """Tell whether a Host value is ``uri-host [":" port]`` (RFC 9110 7.2); it may be empty."""
    return _HOST.fullmatch(content) is not None


def means_this_machine(host: bytes, own_name: bytes = b"") -> bool:
    """Tell whether no web site can have led a browser here by this Host: an address, localhost, our own name.

    Any other name may belong to somebody who lets it resolve to this machine (DNS rebinding), so that a page of his
    has the same origin. Without a Host it is no browser. ``own_name`` is in lower case.
    """
    name = host.lower().partition(b":")[0]
    if host.startswith(b"[") or name in (b"", b"localhost", own_name) or name.endswith(b".localhost"):
        return True
    return _IPV4.fullmatch(name) is not None


def prefers(accept: bytes, wanted: bytes, other: bytes) -> bool:
    """Tell whether an Accept field gives ``wanted`` a higher weight than ``other`` (RFC 9110 12.5.1).

    Both are media types in lower case. Named exactly beats ``type/*`` beats ``*/*``; without Accept nothing
    is preferred.
    """
    weights = dict(_weight(member) for member in tokens(accept))
    return _quality(weights, wanted) > _quality(weights, other)


def accepted_codings(accept_encoding: bytes, offered: Sequence[bytes]) -> list[bytes]:
    """Return which of these content codings are acceptable, best first (RFC 9110 12.5.3); at equal weight as offered.

    Those that the client likes less than no coding at all are left out.
    """
    weights = dict(_weight(member) for member in tokens(accept_encoding))
    anything = weights.get(b"*", 0.0)
    plain = weights.get(b"identity", 0.0)
    quality = {coding: weights.get(coding, anything) for coding in offered}
    accepted = [coding for coding in offered if quality[coding] > 0 and quality[coding] >= plain]
    return sorted(accepted, key=lambda coding: -quality[coding])


def _weight(member: bytes) -> tuple[bytes, float]:
    media, *parameters = (piece.strip() for piece in member.split(b";"))
    for parameter in parameters:
        name, _, number = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return media, float(number)
            except ValueError:
                return media, 0.0
    return media, 1.0


def _quality(weights: dict[bytes, float], media: bytes) -> float:
    for candidate in (media, media.partition(b"/")[0] + b"/*", b"*/*"):
        if candidate in weights:
            return weights[candidate]
    return 0.0
