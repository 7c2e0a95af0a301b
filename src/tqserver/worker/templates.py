"""``render()``: Jinja2 over the page's directory, then the project's ``templates/``.

Compiled once per revision; the page's own templates come from its artifact, and those of the project that are used
are told to control, so that their change reloads the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jinja2
from starlette.responses import HTMLResponse

SHARED_DIRECTORY = "templates"


class _Loader(jinja2.BaseLoader):
    """Reads a template from the artifact under the author's name for it, or from ``templates/``."""

    def __init__(self) -> None:
        self.directory = self.artifact = self.project = os.getcwd()
        self.on_file: Callable[[str], None] = lambda _: None

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        parts = jinja2.loaders.split_template_path(template)  # refuses ".."
        shared = os.path.join(self.project, SHARED_DIRECTORY)
        for real, shown in ((self.artifact, self.directory), (shared, shared)):
            try:
                with open(os.path.join(real, *parts), encoding="utf-8") as file:
                    text = file.read()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                continue
            visible = os.path.join(shown, *parts)
            if shown == shared:
                self.on_file(visible)
            return text, visible, None
        raise jinja2.TemplateNotFound(template, f"{template} is neither in {self.directory} nor in {shared}")


_loader = _Loader()
_environment = jinja2.Environment(loader=_loader, autoescape=True, auto_reload=False)


def configure(directory: str, artifact: str, project: str, on_file: Callable[[str], None]) -> None:
    """Say where this worker's templates are."""
    _loader.directory, _loader.artifact, _loader.project = directory, artifact, project
    _loader.on_file = on_file


def render(name: str, /, **context: Any) -> HTMLResponse:
    """Return a template's result as a response.

    Raises jinja2.TemplateNotFound or jinja2.TemplateSyntaxError, which name the file and line.
    """
    return HTMLResponse(_environment.get_template(name).render(**context))
