"""Server-sent events: /stream shows them, /stream/events sends them."""

import asyncio
import datetime
from collections.abc import AsyncIterator

from tqserver.page import Request, Response, render, sse


async def ticks() -> AsyncIterator[str]:
    while True:
        yield datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        await asyncio.sleep(1)


async def get(request: Request) -> Response:
    if request.url.path.endswith("/events"):
        return sse(ticks())
    return render("stream.html")
