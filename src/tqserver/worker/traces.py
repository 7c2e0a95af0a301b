"""Tracebacks as an author wants them: without our own frames and without the import machinery."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import sys
import traceback
from pathlib import Path

from tqserver.wire.messages import Failed

_LONGEST_END = 16 * 1024  # characters
_OURS = (str(Path(__file__).parent) + os.sep, "<frozen importlib")
_CALLERS = (  # what calls a function that runs in a thread
    *_OURS,
    *(str(Path(str(module.__file__)).parent) + os.sep for module in (asyncio, concurrent.futures)),
)
_LASTING = (SyntaxError, NameError, AttributeError, TypeError, ImportError)  # what is written is wrong
_DISTRIBUTIONS = {  # modules whose distribution has another name
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jwt": "PyJWT",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def format_trace(error: BaseException) -> str:
    """Return the traceback of ``error`` and of what caused it, without frames that are ours."""
    trace = traceback.TracebackException.from_exception(error)
    _strip(trace)
    return "".join(trace.format())


def _strip(trace: traceback.TracebackException) -> None:
    frames = itertools.dropwhile(lambda frame: frame.filename.startswith(_CALLERS), trace.stack)
    trace.stack = traceback.StackSummary.from_list([frame for frame in frames if not frame.filename.startswith(_OURS)])
    for inner in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if inner is not None:
            _strip(inner)


def describe(error: BaseException, project: str, entry: str, route: str) -> Failed:
    """Return what stopped a page from loading, at the deepest line of the project that took part in it.

    ``entry`` is the absolute path of the page's entry file, blamed when no line of the project was reached;
    ``route`` is what the page is reloaded by when what it lacks is there.
    """
    file, line = _blame(error, project, entry)
    message, output = _excerpt(_message(error)), _excerpt(format_trace(error))
    return Failed(message, file, line, output, _remedy(error, route), may_pass=_may_pass(error))


def _may_pass(error: BaseException) -> bool:
    """Tell whether the next try may end otherwise: a database comes up, a package is installed; a typo stays."""
    return isinstance(error, ModuleNotFoundError) or not isinstance(error, _LASTING)


def _excerpt(text: str) -> str:
    """An exception may say anything, at any length: keep both ends."""
    left_out = len(text) - 2 * _LONGEST_END
    if left_out <= 0:
        return text
    return f"{text[:_LONGEST_END]}\n[{left_out} characters are left out]\n{text[-_LONGEST_END:]}"


def _blame(error: BaseException, project: str, entry: str) -> tuple[str, int]:
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    inside = (project + os.sep, str(Path(entry).parent) + os.sep)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(inside) and not frame.filename.startswith(_OURS):
            return frame.filename, frame.lineno or 0
    return entry, 0


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"the page called sys.exit({code}) while it was imported"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _remedy(error: BaseException, route: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if barred := _barred():
            return (
                f"uid {os.getuid()} may not read {barred}, where modules are; let it, or use a Python that it may read"
            )
        module = error.name.partition(".")[0]
        package = _DISTRIBUTIONS.get(module, module)
        return (
            f"install it where tqserver runs (pip install {package}), then tqserver reload {route}; "
            "a module of your own belongs in the page's directory or in the project's"
        )
    if isinstance(error, SystemExit):
        return "define get(request), handler(request) or app, and leave the process to the server"
    return ""


def _barred() -> str:
    """Return a directory of sys.path that this user may not read; importlib takes it for an empty one."""
    for path in sys.path:
        try:
            os.stat(path or ".")
        except PermissionError:
            return path
        except OSError:
            continue  # Python puts a zip file there that need not be
    return ""
