"""What every worker needs, done once in the zygote: each import here is time that no reload pays."""

from __future__ import annotations

import importlib
import inspect

_LAZY = (  # what the libraries import on first use
    "anyio._backends._asyncio",
    "anyio.to_thread",
    "asyncio.runners",
    "concurrent.futures.thread",
    "encodings.idna",
    "jinja2.debug",
    "jinja2.ext",
    "jinja2.runtime",
    "python_multipart.multipart",
    "starlette.background",
    "starlette.datastructures",
    "starlette.formparsers",
    "starlette.websockets",
    "tqserver.page",  # the author's import; nothing below it may know it
)


def warm_up() -> None:
    """Import what the libraries leave for later, and compile the patterns that they would compile then."""
    for module in _LAZY:
        importlib.import_module(module)
    inspect.getsourcelines(warm_up)  # FastAPI asks for every endpoint's: 3 ms, once a process
