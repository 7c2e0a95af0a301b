"""Field names and values: which go on to the next hop, which stop here.

Field lists are lists of (name, value) as bytes, in the order received.
"""

from __future__ import annotations

import re

Fields = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1: these concern one connection and are never passed on.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
FORWARDING = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def tokens(value: bytes) -> frozenset[bytes]:
    """Return the comma-separated tokens of a value in lower case (RFC 9110 5.6.1)."""
    return frozenset(part.strip().lower() for part in value.split(b",") if part.strip())


def is_request_id(value: bytes) -> bool:
    """Tell whether a client's X-Request-Id may be taken over: nothing that could forge a log line."""
    return _REQUEST_ID.fullmatch(value) is not None
