"""What a page author imports.

::

    from tqserver.page import Request, render

    def get(request: Request):
        return render("index.html", name=request.query_params.get("name", "world"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from tqserver.worker.templates import render

__all__ = [
    "FileResponse",
    "HTMLResponse",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Request",
    "Response",
    "StreamingResponse",
    "render",
    "sse",
]


def sse(events: AsyncIterator[str]) -> StreamingResponse:
    """Return a response that sends each text as a server-sent event (HTML Standard 9.2)."""

    async def framed() -> AsyncIterator[str]:
        async for event in events:
            yield "".join(f"data: {line}\n" for line in event.splitlines() or [""]) + "\n"

    return StreamingResponse(framed(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
