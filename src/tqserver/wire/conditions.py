"""Conditional and range requests (RFC 9110 13, 14), for who has the whole of what is asked for.

Fields are given as :func:`headers.values_of` returns them: by name in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

NAMES = frozenset((
    b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since", b"if-range", b"range",
))  # fmt: skip
_STRONG_AFTER_SECONDS = 1  # a date of whole seconds says nothing about what else happened in its own
_ETAG = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_INT_RANGE = re.compile(rb"bytes=[ \t]*([0-9]{1,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
_SUFFIX_RANGE = re.compile(rb"bytes=[ \t]*-([0-9]{1,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a representation from the next: a strong ``etag``, and seconds since the epoch."""

    etag: bytes
    modified: int

    @property
    def last_modified(self) -> bytes:
        """The value of Last-Modified."""
        return formatdate(self.modified, usegmt=True).encode()


def judge(fields: Mapping[bytes, bytes], current: Validators) -> int | None:
    """Return what a GET or HEAD is answered with in place of 200: 412, 304, or None.

    The order is that of RFC 9110 13.2.2: entity tags are asked before dates, and beat them.
    """
    if (if_match := fields.get(b"if-match")) is not None:
        if not _names(if_match, current.etag, weakly=False):
            return 412
    elif (unmodified := _seconds(fields.get(b"if-unmodified-since"))) is not None and current.modified > unmodified:
        return 412
    if (if_none_match := fields.get(b"if-none-match")) is not None:
        return 304 if _names(if_none_match, current.etag, weakly=True) else None
    modified_since = _seconds(fields.get(b"if-modified-since"))
    return 304 if modified_since is not None and current.modified <= modified_since else None


def _names(listed: bytes, etag: bytes, *, weakly: bool) -> bool:
    """Tell whether a list of entity tags names this strong one, or anything (RFC 9110 8.8.3.2, 13.1.1)."""
    if listed == b"*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ETAG.findall(listed))


def _seconds(date: bytes | None) -> int | None:
    """Read a date in any of the three forms (RFC 9110 5.6.7); what is none, or two, counts as none (13.1.3)."""
    if date is None or date.count(b",") > 1:
        return None
    try:
        parsed = parsedate_to_datetime(date.decode("latin-1"))
        return int(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Unsatisfiable(ValueError):
    """The range begins behind the end (416)."""


def asked_range(fields: Mapping[bytes, bytes], current: Validators, size: int, now: float) -> range | None:
    """Return the bytes of ``size`` that a GET asks for; None for all of them. Raises :class:`Unsatisfiable`.

    Of several ranges at once the whole is answered, as it is of what is no range, and of nothing (RFC 9110 14.2
    leaves all of this to the server): who asks for many small pieces could make the answer larger than the whole.
    ``now`` are seconds since the epoch.
    """
    wanted = fields.get(b"range")
    if wanted is None or not size or not _is_same(fields.get(b"if-range"), current, now):
        return None
    if suffix := _SUFFIX_RANGE.fullmatch(wanted):
        length = int(suffix[1])
        if not length:
            raise Unsatisfiable
        return range(max(0, size - length), size)
    if (asked := _INT_RANGE.fullmatch(wanted)) is None:
        return None
    first, last = int(asked[1]), int(asked[2]) if asked[2] else size - 1
    if asked[2] and last < first:
        return None  # RFC 9110 14.1.1: invalid, and so ignored
    if first >= size:
        raise Unsatisfiable
    return range(first, min(last + 1, size))


def _is_same(if_range: bytes | None, current: Validators, now: float) -> bool:
    """Tell whether the client has parts of this very representation, by a strong comparison (RFC 9110 13.1.5)."""
    if if_range is None:
        return True
    if b'"' in if_range:
        return if_range == current.etag
    return if_range == current.last_modified and now - current.modified > _STRONG_AFTER_SECONDS
