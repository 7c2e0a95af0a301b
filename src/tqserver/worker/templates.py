"""``render()``: Jinja2 over the page's directory, then the project's ``templates/``.

Compiled once per revision; the page's own templates come from its artifact, and those of the project that are
used are told to control, so that their change reloads the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jinja2
from jinja2.loaders import split_template_path
from starlette.responses import HTMLResponse

from tqserver.worker.loader import Layout

SHARED_DIRECTORY = "templates"


class _Loader(jinja2.BaseLoader):
    """Reads a template by the author's name for it. Outside a worker, in the working directory."""

    def __init__(self) -> None:
        self.layout: Layout | None = None

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        here = os.getcwd()
        layout = self.layout or Layout(here, here, here)
        parts = split_template_path(template)  # refuses ".."
        directories = (layout.directory, os.path.join(layout.project, SHARED_DIRECTORY))
        for directory in directories:
            path = os.path.join(directory, *parts)
            if os.path.isfile(layout.real(path)):
                return layout.read(path).decode(), path, None
        places = " and ".join(directories)
        raise jinja2.TemplateNotFound(template, f"template {template!r} is in neither of {places}")


_loader = _Loader()
_environment = jinja2.Environment(loader=_loader, autoescape=True, auto_reload=False)


def configure(layout: Layout) -> None:
    """Say where this worker's templates are."""
    _loader.layout = layout


def render(name: str, /, **context: Any) -> HTMLResponse:
    """Return a template's result as a response.

    Raises jinja2.TemplateNotFound or jinja2.TemplateSyntaxError, which name the file and line.
    """
    return HTMLResponse(_environment.get_template(name).render(**context))
