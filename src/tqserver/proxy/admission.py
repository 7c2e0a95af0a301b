"""What is refused before a worker hears of it: the status to answer with, or None for what may go on.

404 is the table's answer and 400 mostly the parser's; these are the limits, and what a proxy cannot pass on.
"""

from __future__ import annotations

from tqserver.wire.http1 import RequestHead
from tqserver.wire.messages import RouteLimits, ServerLimits

MAX_TARGET_BYTES = 16384
MAX_BODY_BYTES = 2**63 - 1  # what workers count in


def refused_head(request: RequestHead, limits: ServerLimits) -> int | None:
    """Judge a whole head."""
    if request.size > limits.max_header_bytes or request.field_count > limits.max_header_fields:
        return 431
    if len(request.target) > MAX_TARGET_BYTES:
        return 414
    if request.method in (b"CONNECT", b"PRI"):
        return 501  # no tunnels to elsewhere; PRI is HTTP/2 (RFC 9113 3.4)
    if request.codings is not None and request.codings != (b"chunked",):
        return 501  # RFC 9112 6.1
    if request.expect and request.expect != b"100-continue":
        return 417
    if request.content_length > MAX_BODY_BYTES:
        return 413
    return None


def refused_partial_head(received: bytes, limits: ServerLimits) -> int | None:
    """Judge the beginning of a head that has not ended yet."""
    if b"\r\n" not in received and len(received) > MAX_TARGET_BYTES:
        return 414
    return 431 if len(received) > limits.max_header_bytes else None


def refused_body(body_bytes: int, server: ServerLimits, route: RouteLimits) -> int | None:
    """Judge a body by its announced length, or by what came of it so far: refused, never truncated."""
    for limit in (route.max_body, server.max_body):
        if limit and body_bytes > limit:
            return 413
    return None
