"""Is this request one that can be answered? Decided from its head and the limits alone."""

from __future__ import annotations

from dataclasses import dataclass

from tqserver.wire.headers import Fields


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered here. ``close``: what follows on the connection cannot be trusted."""

    status: int
    message: str
    close: bool = False


BAD_HOST = Refusal(400, "a request names exactly one host", close=True)
BAD_TARGET = Refusal(400, "the target is not a path", close=True)
TOO_LARGE = Refusal(413, "the body is larger than allowed", close=True)
HEAD_TOO_LARGE = Refusal(431, "the request head is larger than allowed", close=True)
MALFORMED = Refusal(400, "the request is malformed", close=True)


def refuse_head(version: str, target: bytes, fields: Fields, max_body: int) -> Refusal | None:
    """Return why a request is refused by its head, None if it is not."""
    hosts = 0
    length = 0
    for name, value in fields:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)  # llhttp has seen that it is a number
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return BAD_HOST  # RFC 9112 3.2
    if not target.startswith((b"/", b"http://", b"https://")) and target != b"*":
        return BAD_TARGET  # RFC 9112 3.2: neither origin-, absolute- nor asterisk-form
    if max_body and length > max_body:
        return TOO_LARGE
    return None


def path_of(target: bytes) -> bytes:
    """Return the path of a target without its query (RFC 9112 3.2.1, 3.2.2)."""
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0]
