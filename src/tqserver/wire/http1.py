"""HTTP/1.1 syntax: the one module that knows httptools (llhttp in its strict mode).

llhttp refuses what RFC 9112 calls ambiguous: Content-Length beside Transfer-Encoding (6.3), differing lengths, bare
CR or LF (2.2), folded lines (5.2), a space before the colon (5.1), control characters in values.
"""

from __future__ import annotations

from typing import Any, cast

import httptools

__all__ = ["LAST_CHUNK", "ParseError", "UpgradeAt", "chunk", "request_parser", "response_parser"]

ParseError = httptools.HttpParserError
UpgradeAt = httptools.HttpParserUpgrade
LAST_CHUNK = b"0\r\n\r\n"


def request_parser(handler: object) -> Any:
    """Return a parser that calls ``on_url``, ``on_header``, ``on_headers_complete``, ``on_body``,
    ``on_message_complete`` of ``handler``."""
    return cast(Any, httptools.HttpRequestParser(handler))


def response_parser(handler: object) -> Any:
    """Return a parser of responses, with the same callbacks but ``on_url``."""
    return cast(Any, httptools.HttpResponseParser(handler))


def chunk(body: bytes) -> bytes:
    """Return one chunk (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)
