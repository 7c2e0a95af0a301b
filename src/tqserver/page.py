"""What a page author imports.

::

    from tqserver.page import Request, render

    def get(request: Request):
        return render("index.html", name=request.query_params.get("name", "world"))
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from starlette.background import BackgroundTask, BackgroundTasks
from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
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
from starlette.websockets import WebSocket

from tqserver.worker.templates import render

__all__ = [
    "BackgroundTask",
    "BackgroundTasks",
    "FileResponse",
    "HTMLResponse",
    "HTTPException",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Request",
    "Response",
    "StreamingResponse",
    "UploadFile",
    "WebSocket",
    "render",
    "sse",
]

_LINE_END = re.compile("\r\n|\r|\n")


def sse(events: AsyncIterable[str] | Iterable[str]) -> StreamingResponse:
    """Return a response that sends each text as the data of one server-sent event (HTML Standard 9.2)."""
    texts = events if isinstance(events, AsyncIterable) else iterate_in_threadpool(events)
    return StreamingResponse(_framed(texts), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _framed(texts: AsyncIterable[str]) -> AsyncIterator[str]:
    async for text in texts:
        yield "".join(f"data: {line}\n" for line in _LINE_END.split(text)) + "\n"
