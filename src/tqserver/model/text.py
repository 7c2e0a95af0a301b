"""Text of others as it is shown: what would move a cursor, colour a terminal or end a line is spelled out."""

from __future__ import annotations

import re

_DIRECTIONS = "\u2028-\u202e\u2066-\u2069"  # line and paragraph separators, and what reverses the text that follows
_IN_A_LINE = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f{_DIRECTIONS}]")
_IN_LINES = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f{_DIRECTIONS}]")


def one_line(text: str) -> str:
    """Return a text without control characters: a newline is shown as ``\\n``, an escape as ``\\x1b``."""
    return _IN_A_LINE.sub(_spelled, text)


def many_lines(text: str) -> str:
    """Return a text of several lines without other control characters; tabs stay."""
    return _IN_LINES.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
