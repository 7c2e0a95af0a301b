"""A page: a directory below ``pages/`` with an entry file; its path is its URL.

``pages/api/users`` answers ``/api/users`` and all below; a last segment ``index`` is dropped, so
``pages/index`` answers ``/``. Names that begin with ``_`` or ``.`` are not pages.
"""

from __future__ import annotations

from dataclasses import dataclass

INDEX = "index"
HIDDEN_PREFIXES = ("_", ".")
PUBLIC = "public"  # served by the proxy, never a page of its own


@dataclass(frozen=True, slots=True)
class Page:
    """A directory found under ``pages/``.

    ``name`` is the path below the pages directory with ``/`` between segments ("api/users", "users/[id]"),
    ``directory`` the absolute path, ``entry`` the entry file relative to it ("main.py"), ``runtime`` the
    name of the runtime that builds and runs it ("python"). ``nested`` are the directories below it, relative,
    that are pages themselves and so are no part of this one.
    """

    name: str
    directory: str
    runtime: str
    entry: str
    nested: tuple[str, ...] = ()

    @property
    def route(self) -> str:
        """The URL pattern it answers ("/api/users", "/users/[id]", "/")."""
        return route_of(self.name)


def is_hidden(segment: str) -> bool:
    """Tell whether a directory of this name is left out of discovery."""
    return segment.startswith(HIDDEN_PREFIXES)


def route_of(name: str) -> str:
    """Return the route of the page of this name: "index" -> "/", "api/index" -> "/api", "api" -> "/api"."""
    segments = name.split("/")
    if segments[-1] == INDEX:
        segments.pop()
    return "/" + "/".join(segments)
