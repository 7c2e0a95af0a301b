"""A page's module to one ASGI app: functions named by methods, ``handler``, an ASGI app or a WSGI app."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tqserver.model.errors import Location, PageError
from tqserver.model.routing import Pattern
from tqserver.worker.functions import METHODS, FunctionPage
from tqserver.worker.incoming import Incoming
from tqserver.worker.loader import ContentLoader

THREADS = 40  # requests of one worker that sync code answers at once
_APP_NAMES = ("app", "application")
_REMEDY = "define get(request), handler(request) or app"


def adapt(module: ModuleType, route: str, mode: str) -> ASGIApp:
    """Return the page as an ASGI app. Raises :class:`PageError` that says what to define."""
    pattern = Pattern.parse(route)
    functions = {name: function for name in METHODS if (function := _own(module, name)) is not None}
    handler = _own(module, "handler")
    apps = {name: app for name in _APP_NAMES if (app := getattr(module, name, None)) is not None}
    if apps:  # beside an app, functions are its endpoints, whatever they are called
        if len({id(app) for app in apps.values()}) > 1:
            raise _mistake(module, "it defines both app and application", "keep one of them")
        name, app = next(iter(apps.items()))
        return _Mounted(_as_asgi(app, name, module), pattern.static_prefix)
    if functions and handler:
        found = ", ".join(f"{name}()" for name in (*functions, "handler"))
        raise _mistake(module, f"it defines more than one thing to answer with: {found}", f"keep one: {_REMEDY}")
    if not functions and not handler:
        raise _mistake(module, "it must define something that answers a request", _REMEDY)
    try:
        return FunctionPage(functions, handler, pattern, mode)
    except TypeError as error:
        raise _mistake(module, str(error), "let it take the request, or nothing") from error


def _mistake(module: ModuleType, message: str, remedy: str) -> PageError:
    return PageError(message, remedy=remedy, location=Location(str(module.__file__)))


def _own(module: ModuleType, name: str) -> Callable[..., Any] | None:
    """Return the function of this name, unless it is another's: ``from requests import get`` is no page."""
    found = function = getattr(module, name, None)
    while isinstance(function, functools.partial):
        function = function.func
    origin = sys.modules.get(getattr(function, "__module__", None) or "")
    is_own = callable(found) and isinstance(getattr(origin, "__loader__", None), ContentLoader)
    return found if is_own else None


def _as_asgi(app: Any, name: str, module: ModuleType) -> ASGIApp:
    """Tell ASGI from WSGI by what it can be called with."""
    takes_three, takes_two = _can_take(app, 3), _can_take(app, 2)
    call = app if inspect.isroutine(app) or inspect.isclass(app) else type(app).__call__
    if takes_three and (not takes_two or inspect.iscoroutinefunction(call)):
        asgi: ASGIApp = app
        return asgi
    if takes_two and not inspect.iscoroutinefunction(call):
        return _threaded(app)
    raise _mistake(
        module,
        f"{name} is neither an ASGI app nor a WSGI app, but {type(app).__name__}",
        f"let {name} be called with (scope, receive, send), or with (environ, start_response)",
    )


def _threaded(app: Any) -> ASGIApp:
    middleware = cast(ASGIApp, WSGIMiddleware(app, workers=THREADS))

    def called(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # a2wsgi needs a coroutine of receive(); Granian's returns something that is merely awaitable.
        return middleware(scope, Incoming(receive), send)

    return called


def _can_take(call: Any, count: int) -> bool:
    try:
        inspect.signature(call).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


class _Mounted:
    """An app below a route. root_path is the static part of it, so the app's own routes start at ``/``."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan":
            scope["root_path"] = self._root_path
            if scope["path"] == self._root_path:
                # The app's "/" answers the page's own URL, not only the one with a slash behind it.
                scope["path"] += "/"
                scope["raw_path"] += b"/"
        return self._app(scope, receive, send)
