"""Pages made of functions: ``get(request)``, ``post(request)``, ..., or one ``handler(request)``."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from html import escape
from typing import Any

from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from tqserver.model.routing import Pattern, RouteTable, normalise
from tqserver.wire.codec import to_json
from tqserver.wire.headers import is_trace, means_this_machine
from tqserver.worker.incoming import Incoming
from tqserver.worker.traces import format_trace

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_STREAMED = "application/octet-stream"

Function = Callable[[Request], Awaitable[Any]]


class FunctionPage:
    """An ASGI app. Sync functions run in threads, so that none blocks the others.

    Raises TypeError for a function that takes anything but the request or nothing.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        handler: Callable[..., Any] | None,
        pattern: Pattern,
        mode: str,
    ) -> None:
        self._functions = {name.upper(): _prepared(name, function) for name, function in functions.items()}
        self._handler = _prepared("handler", handler) if handler is not None else None
        self._routes = RouteTable([(pattern, None)])
        self._mode = mode
        if "GET" in self._functions:
            self._functions.setdefault("HEAD", self._functions["GET"])
        self._allow = ", ".join(sorted({*self._functions, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})  # before the handshake: 403
            return
        incoming = Incoming(receive)
        request = Request(scope, incoming, send)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return  # while it sent its body: nobody waits for an answer
        except HTTPException as error:
            response = PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)
        except Exception as error:
            response = self._failed(request, error)
        if request.method == "HEAD":
            await _drop_body(response)
            send = _without_body(send)
        await response(scope, incoming.departure, send)

    async def _respond(self, request: Request) -> Response:
        path = normalise(request.scope["raw_path"].decode("utf-8", "surrogateescape"))
        match = self._routes.match(path) if path is not None else None
        if match is None:
            return PlainTextResponse("Not Found\n", 404)
        request.scope["path_params"] = match.params
        function = self._handler or self._functions.get(request.method)
        if function is not None:
            return to_response(await function(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": self._allow})
        return PlainTextResponse("Method Not Allowed\n", 405, {"Allow": self._allow})

    def _failed(self, request: Request, error: Exception) -> Response:
        identity = request.headers.get("x-request-id", "-")
        part_of = request.headers.get("traceparent", "")
        named = f"request {identity}, trace {part_of}" if is_trace(part_of.encode()) else f"request {identity}"
        trace = format_trace(error)
        path = request.scope["raw_path"].decode("ascii", "backslashreplace")  # what the client escaped stays so
        print(f"{request.method} {path} [{named}]\n{trace}", file=sys.stderr)
        if self._mode == "prod":
            return PlainTextResponse(f"Internal Server Error\nrequest {identity}\n", 500)
        if not means_this_machine(request.headers.get("host", "").encode("latin-1")):
            return PlainTextResponse(f"Internal Server Error\nrequest {identity}\n{_WITHHELD}\n", 500)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(_TRACE_PAGE.format(escape(trace)), 500)
        return PlainTextResponse(trace, 500)


_WITHHELD = "The reason is told at localhost and at an IP address only, and in the log."
_TRACE_PAGE = """<!doctype html><meta charset=utf-8><title>500</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem}}pre{{background:#f4f4f5;padding:1rem;overflow:auto}}</style>
<h1>The page raised an exception</h1><pre>{}</pre>
"""


def _prepared(name: str, function: Callable[..., Any]) -> Function:
    """Return it as a coroutine function of the request, whatever it takes and however it runs."""
    takes_request = _takes_request(name, function)
    forms = (function, type(function).__call__)
    if any(map(inspect.iscoroutinefunction, forms)):
        return function if takes_request else lambda _: function()
    runs_later = any(inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form) for form in forms)

    async def called(request: Request) -> Any:
        arguments = (request,) if takes_request else ()
        if runs_later:  # calling it runs none of the author's code
            return function(*arguments)
        result = await asyncio.to_thread(function, *arguments)
        return await result if inspect.isawaitable(result) else result

    return called


def _takes_request(name: str, function: Callable[..., Any]) -> bool:
    signature = inspect.signature(function)
    for arguments in ((None,), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise TypeError(f"{name}{signature} cannot be called with a request")


def to_response(result: Any) -> Response:
    """Return what a function returned as a response. Raises TypeError for what has no meaning."""
    match result:
        case Response():
            return result
        case None:
            return Response(status_code=204)
        case str():
            return HTMLResponse(result)
        case bytes():
            return Response(result, media_type=_STREAMED)
        case dict() | list():
            return Response(to_json(result), media_type="application/json")
        case AsyncIterator() | Iterator():
            return StreamingResponse(result, media_type=_STREAMED)
        case _:
            raise TypeError(
                f"a page returned {type(result).__name__}; "
                "return a Response, str, dict, list, bytes, None or a generator"
            )


async def _drop_body(response: Response) -> None:
    """Let a streamed response end at once: its generator may be one that never does."""
    if not isinstance(response, StreamingResponse):
        return
    if (close := getattr(response.body_iterator, "aclose", None)) is not None:
        await close()

    response.body_iterator = iterate_in_threadpool(())


def _without_body(send: Send) -> Send:
    """HEAD: the fields of GET, and no content (RFC 9110 9.3.2)."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b""})

    return send_head
