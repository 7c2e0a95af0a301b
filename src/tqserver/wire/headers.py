"""Field names and values: which go on, which stop here.

A head is never taken apart field by field. Those that stop at a proxy are looked for; the lines between them are
copied as they came, in their order. That is sound only for a head that http1 has validated: every CRLF in it
begins a field line, and no line is folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Found = list[tuple[bytes, bytes]]
"""Fields that were taken out: name in lower case, value without white space around it, in their order."""

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


def _lines_named(*names: str) -> re.Pattern[bytes]:
    """Return a pattern for these field lines in a head in lower case; names are regular expressions."""
    return re.compile(rb"\r\n(" + "|".join(names).encode() + rb"):[ \t]*([^\r\n]*)")


REQUEST_STOPS = _lines_named(
    *_HOP_BY_HOP, "content-length", "expect", "host", "x-forwarded-[a-z0-9-]+", "forwarded", "x-request-id"
)
RESPONSE_STOPS = _lines_named(*_HOP_BY_HOP, "content-length", "x-request-id", "date")


def part(head: bytes, start: int, stops: re.Pattern[bytes]) -> tuple[bytes, Found]:
    """Part the field lines of a head into those that go on and those that stop here.

    ``start`` is where the start line's CRLF stands; ``head`` ends with the empty line. Each line that goes on
    keeps its CRLF in front and has none behind, so runs of them can be joined as they are.
    """
    runs = []
    found = []
    position = start
    for match in stops.finditer(head.lower(), start):
        first, last = match.span()
        if first > position:
            runs.append(head[position:first])
        found.append((match[1], head[match.start(2) : last].rstrip()))
        position = last
    runs.append(head[position:-4])
    return b"".join(runs), found


def without(lines: bytes, names: Iterable[bytes]) -> bytes:
    """Return field lines without those of these names, which are in lower case."""
    unwanted = frozenset(names)
    return b"".join(
        b"\r\n" + line
        for line in lines.split(b"\r\n")
        if line and line.partition(b":")[0].lower() not in unwanted
    )


def value(lines: bytes, name: bytes) -> bytes:
    """Return the value of the first field of this name (in lower case), b"" if there is none."""
    for line in lines.split(b"\r\n"):
        field, _, content = line.partition(b":")
        if field.lower() == name:
            return content.strip()
    return b""


def tokens(content: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case (RFC 9110 5.6.1)."""
    return [token for token in (part.strip() for part in content.lower().split(b",")) if token]


_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def is_request_id(content: bytes) -> bool:
    """Tell whether a client's X-Request-Id can be put into logs and heads as it is."""
    return _REQUEST_ID.fullmatch(content) is not None


_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")


def is_host(content: bytes) -> bool:
    """Tell whether a Host value is ``uri-host [":" port]`` (RFC 9110 7.2); it may be empty."""
    return _HOST.fullmatch(content) is not None


def prefers(accept: bytes, wanted: bytes, other: bytes) -> bool:
    """Tell whether an Accept field gives ``wanted`` a higher weight than ``other`` (RFC 9110 12.5.1).

    Both are media types in lower case. Named exactly beats ``type/*`` beats ``*/*``; without Accept nothing is
    preferred.
    """
    weights = dict(_weight(member) for member in tokens(accept))
    return _quality(weights, wanted) > _quality(weights, other)


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
