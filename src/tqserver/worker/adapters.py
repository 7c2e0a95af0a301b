"""A page's module to one ASGI app: functions named by methods, ``handler``, an ASGI app or a WSGI app."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from html import escape
from types import ModuleType
from typing import Any

from a2wsgi import WSGIMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from tqserver.model.errors import Location, PageError
from tqserver.model.routing import Pattern
from tqserver.wire.codec import to_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_STREAMED = "application/octet-stream"


def adapt(module: ModuleType, route: str, mode: str) -> tuple[App, bool]:
    """Return the page as an ASGI app, and whether it wants lifespan events. Raises :class:`PageError`."""
    pattern = Pattern.parse(route)
    functions = {name: getattr(module, name) for name in METHODS if callable(getattr(module, name, None))}
    handler = getattr(module, "handler", None)
    app = getattr(module, "app", None) or getattr(module, "application", None)
    styles = [name for name, given in (("functions", functions), ("handler", handler), ("app", app)) if given]
    if app is None and len(styles) != 1:  # beside an app, functions are its endpoints, whatever they are called
        found = " and ".join(styles) or "nothing"
        raise PageError(
            f"it must define one of: functions such as get(request); handler(request); app. Found: {found}",
            remedy="define def get(request): ... or app = FastAPI()",
            location=Location(str(module.__file__)),
        )
    if app is not None:
        if _is_asgi(app):
            return _Mounted(app, pattern), True
        return _Mounted(WSGIMiddleware(app), pattern), False
    return FunctionPage(functions, handler, pattern, mode), False


def _is_asgi(app: Any) -> bool:
    """An ASGI app is a coroutine function of three arguments, or an object with such a ``__call__``."""
    call = app if inspect.isroutine(app) else type(app).__call__
    if inspect.iscoroutinefunction(call):
        return True
    try:
        names = [name for name in inspect.signature(call).parameters if name != "self"]
    except (TypeError, ValueError):
        return False
    return len(names) == 3


class _Mounted:
    """An app below a route: root_path is the static part of it, so that the app's own routes start at /."""

    def __init__(self, app: Any, pattern: Pattern) -> None:
        self._app = app
        self._root_path = pattern.static_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["root_path"] = self._root_path
            if scope["path"] == self._root_path:  # /api itself is the app's own /, not a redirect to /api/
                scope["path"] += "/"
                scope["raw_path"] = scope["path"].encode()
        await self._app(scope, receive, send)


class FunctionPage:
    """Functions of a request. Sync ones run in threads, so that none blocks the others."""

    def __init__(
        self,
        functions: dict[str, Callable[..., Any]],
        handler: Callable[..., Any] | None,
        pattern: Pattern,
        mode: str,
    ) -> None:
        self._functions = functions
        self._handler = handler
        self._pattern = pattern
        self._mode = mode
        methods = {name.upper() for name in functions} | {"OPTIONS"}
        if "get" in functions:
            methods.add("HEAD")
        self._allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            raise RuntimeError("a function page answers HTTP requests only")
        segments = [segment for segment in scope["path"].split("/") if segment]
        scope["path_params"] = self._pattern.parameters(segments)
        request = Request(scope, receive, send)
        try:
            response = await self._respond(request)
        except Exception:
            response = self._failed(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        function = self._handler or self._function_for(request.method)
        if function is None:
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": self._allow})
            return PlainTextResponse("Method Not Allowed\n", 405, headers={"Allow": self._allow})
        takes_request = bool(inspect.signature(function).parameters)
        arguments = (request,) if takes_request else ()
        if inspect.iscoroutinefunction(function):
            result = await function(*arguments)
        elif inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            result = function(*arguments)
        else:
            result = await asyncio.to_thread(function, *arguments)
            if inspect.isawaitable(result):
                result = await result
        return to_response(result)

    def _function_for(self, method: str) -> Callable[..., Any] | None:
        found = self._functions.get(method.lower())
        return self._functions.get("get") if found is None and method == "HEAD" else found

    def _failed(self, request: Request) -> Response:
        identity = request.headers.get("x-request-id", "")
        trace = traceback.format_exc()
        print(f"{request.method} {request.url.path} [{identity}]\n{trace}", file=sys.stderr, flush=True)
        if self._mode == "prod":
            return PlainTextResponse(f"Internal Server Error\nrequest {identity}\n", 500)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(_TRACE_PAGE.format(escape(trace)), 500)
        return PlainTextResponse(trace, 500)


_TRACE_PAGE = (
    "<!doctype html><meta charset=utf-8><title>500</title>"
    "<style>body{{font:15px/1.5 system-ui;margin:2rem}}pre{{background:#f4f4f5;padding:1rem;overflow:auto}}</style>"
    "<h1>The page raised an exception</h1><pre>{}</pre>"
)


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
                f"a page returned {type(result).__name__}; return a Response, str, dict, list, bytes, None or a "
                "generator"
            )
