"""Is there an answer on that endpoint?

A probe is one ``GET`` of the health path over a connection of its own; any status below 500 is an answer.
"""

from __future__ import annotations

import asyncio

_FIRST_LINE_LIMIT = 4096
_CONNECT_SECONDS = 2.0


async def probe(endpoint: str, path: str, timeout_seconds: float) -> str:
    """Return "" if the worker answers, else what is wrong."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await _open(endpoint)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except (OSError, ValueError) as error:
        return str(error)
    return _verdict(line)


async def nobody_listens(endpoint: str) -> bool:
    """Tell whether the kernel knows that nobody is there; busy, or silent, is another matter."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await _open(endpoint)
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return False


def _verdict(status_line: bytes) -> str:
    parts = status_line.split(b" ", 2)
    if not parts[0].startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
        return "it does not speak HTTP"
    status = int(parts[1])
    return "" if status < 500 else f"status {status}"


async def _open(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    kind, _, where = endpoint.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(where, limit=_FIRST_LINE_LIMIT)
    host, _, port = where.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=_FIRST_LINE_LIMIT)
