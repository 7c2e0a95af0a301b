"""A page: a directory below ``pages/`` with an entry file; its path is its URL.

``pages/api/users`` answers ``/api/users`` and all below; a last segment ``index`` is dropped, so
``pages/index`` answers ``/``. Names that begin with ``_`` or ``.`` are not pages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from tqserver.model.errors import NotFound

INDEX = "index"
HIDDEN_PREFIXES = ("_", ".")
PUBLIC = "public"  # served by the proxy, never a page of its own


@dataclass(frozen=True, slots=True)
class Page:
    """A directory found under ``pages/``.

    ``name`` is the path below the pages directory with ``/`` between segments ("api/users", "users/[id]"),
    ``directory`` the absolute path, ``entry`` the entry file relative to it ("main.py"), ``runtime`` the
    name of the runtime that builds and runs it ("python"). ``nested`` are the directories below it, relative,
    that are pages themselves and so are no part of this one. ``has_public``: there is a ``public/`` in it.
    """

    name: str
    directory: str
    runtime: str
    entry: str
    nested: tuple[str, ...] = ()
    has_public: bool = False

    @property
    def public(self) -> str:
        """The directory, absolute, of the files that the proxy serves itself; "" if there is none."""
        return f"{self.directory}/{PUBLIC}" if self.has_public else ""

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


def find(names: Iterable[str], given: str) -> str:
    """Return the name of the page that a user means by its route ("/api", "/") or its name ("api", "pages/api").

    ``names`` are those of the pages there are. Raises :class:`NotFound` naming the nearest.
    """
    names = list(names)
    by_route = {route_of(name): name for name in names}
    wanted = given.rstrip("/") or "/"
    for spelling in (wanted, wanted.removeprefix("pages/")):
        if spelling in names:
            return spelling
        if (name := by_route.get(spelling)) is not None:
            return name
    near = difflib.get_close_matches("/" + wanted.lstrip("/"), by_route, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else "tqserver routes lists them"
    raise NotFound(f"no page has the route {given}", remedy=remedy)
