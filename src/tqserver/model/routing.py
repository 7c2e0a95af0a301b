"""Which page answers a path.

A pattern answers its own path and everything below it, by whole segments: ``/api/users`` answers ``/api/users/7``,
never ``/api/usersx``. ``[id]`` matches one segment, ``[...rest]`` one or more. Among all patterns that match, the
best is found segment by segment from the left - static beats ``[id]`` beats ``[...rest]`` - and where one pattern
ends first, the longer wins. The search goes back: if ``/a/[x]/c`` is reached by a static ``/a/b`` that leads no
further, the parameter branch is not better, since ``/a/b`` is a match itself and static beats parameter there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from tqserver.model.errors import Location, PageError
from tqserver.model.pages import Page

ValueT = TypeVar("ValueT")
_PARAMETER = re.compile(r"\[(\.\.\.)?([A-Za-z_][A-Za-z0-9_]*)\]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a pattern: its text if static, else the parameter's name; ``rest`` takes several."""

    text: str
    is_parameter: bool = False
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A route, parsed."""

    text: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse "/users/[id]/[...rest]". Raises :class:`PageError` with the remedy."""
        if not text.startswith("/"):
            raise _error(text, "a route begins with /", "write a slash in front")
        segments = [_segment(part, text) for part in text.strip("/").split("/") if part]
        names = [segment.text for segment in segments if segment.is_parameter]
        if len(set(names)) != len(names):
            raise _error(text, "two parameters have one name", "rename one of the directories")
        if any(segment.is_rest for segment in segments[:-1]):
            raise _error(text, "[...name] takes all that follows", "it can only be the last directory")
        return cls(text, tuple(segments))

    @property
    def shape(self) -> tuple[str, ...]:
        """What makes two patterns the same route: parameter names do not count."""
        return tuple(
            ("[...]" if segment.is_rest else "[]") if segment.is_parameter else segment.text
            for segment in self.segments
        )

    @property
    def static_prefix(self) -> str:
        """The part before the first parameter: "/users" of "/users/[id]", "" of "/"."""
        prefix = ""
        for segment in self.segments:
            if segment.is_parameter:
                break
            prefix += "/" + segment.text
        return prefix

    def parameters(self, segments: Sequence[str]) -> dict[str, str]:
        """Return the values that a matching path's segments give to the parameters."""
        values = {}
        for place, segment in enumerate(self.segments):
            if segment.is_rest:
                values[segment.text] = "/".join(segments[place:])
            elif segment.is_parameter:
                values[segment.text] = segments[place]
        return values


def _segment(part: str, route: str) -> Segment:
    if not part.startswith("["):
        return Segment(part)
    found = _PARAMETER.fullmatch(part)
    if found is None:
        raise _error(
            route,
            f"{part!r} is not a parameter",
            "write [name] or [...name] with a name of letters, digits and _",
        )
    return Segment(found[2], is_parameter=True, is_rest=found[1] is not None)


def _error(route: str, message: str, remedy: str) -> PageError:
    return PageError(message, remedy=remedy, location=Location(f"pages{route}"))


@dataclass(frozen=True, slots=True)
class Match(Generic[ValueT]):
    """The pattern that answers a path, and what it stands for."""

    pattern: Pattern
    value: ValueT
    segments: tuple[str, ...]

    @property
    def params(self) -> dict[str, str]:
        """The values of the pattern's parameters."""
        return self.pattern.parameters(self.segments)


class _Node(Generic[ValueT]):
    """One segment of the tree of patterns."""

    __slots__ = ("here", "parameter", "rest", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node[ValueT]] = {}
        self.parameter: _Node[ValueT] | None = None
        self.here: tuple[Pattern, ValueT] | None = None
        self.rest: tuple[Pattern, ValueT] | None = None


class RouteTable(Generic[ValueT]):
    """Patterns and what they stand for; immutable. Of two patterns of one shape the later is kept."""

    def __init__(self, entries: Iterable[tuple[Pattern, ValueT]]) -> None:
        self._root: _Node[ValueT] = _Node()
        for pattern, value in entries:
            self._add(pattern, value)

    def _add(self, pattern: Pattern, value: ValueT) -> None:
        node = self._root
        for segment in pattern.segments:
            if segment.is_rest:
                node.rest = (pattern, value)
                return
            if segment.is_parameter:
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment.text, _Node())
        node.here = (pattern, value)

    def match(self, path: str) -> Match[ValueT] | None:
        """Return the best match for a normalised path (see :func:`normalise`), None if no page answers."""
        segments = tuple(path.split("/")[1:]) if path != "/" else ()
        if segments and not segments[-1]:
            segments = segments[:-1]  # /api/ is answered by /api
        found = self._best(segments)
        return None if found is None else Match(found[0], found[1], segments)

    def _best(self, segments: tuple[str, ...]) -> tuple[Pattern, ValueT] | None:
        """Walk without going back while there is one way to go: the common case, and the quick one."""
        node = self._root
        best = node.here
        for place, segment in enumerate(segments):
            static = node.static.get(segment)
            if node.parameter is None and node.rest is None:
                if static is None:
                    return best
                node = static
            elif static is None and node.parameter is not None and node.rest is None:
                node = node.parameter
            else:
                return _search(node, segments, place) or best
            if node.here is not None:
                best = node.here
        return best


def _search(node: _Node[ValueT], segments: tuple[str, ...], place: int) -> tuple[Pattern, ValueT] | None:
    """Return the best match below ``node``: the first branch, in order of rank, that has one."""
    if place < len(segments):
        static = node.static.get(segments[place])
        if static is not None and (found := _search(static, segments, place + 1)) is not None:
            return found
        if node.parameter is not None:
            found = _search(node.parameter, segments, place + 1)
            if found is not None:
                return found
        if node.rest is not None:
            return node.rest
    return node.here


_SEPARATORS = re.compile(r"%2f|%5c|%00", re.IGNORECASE)


def normalise(path: str) -> str | None:
    """Return the path by which a request is matched, or None for one that is refused with 400.

    ``path`` is the target without its query. It is percent-decoded (RFC 3986 2.1) as UTF-8; dot segments are
    resolved (RFC 3986 5.2.4), also encoded ones, and may not lead above the root; empty segments are dropped. An
    encoded slash, backslash or NUL, a bare backslash, and bytes that are not UTF-8 are refused: what a worker
    could read as another path than the one matched never reaches it.
    """
    if "%" not in path and "//" not in path and "/." not in path and "\\" not in path and "\0" not in path:
        return path  # nearly every request
    if _SEPARATORS.search(path) or "\\" in path or "\0" in path:
        return None
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    segments: list[str] = []
    for segment in decoded.split("/"):
        if segment == "..":
            if not segments:
                return None
            segments.pop()
        elif segment and segment != ".":
            segments.append(segment)
    return "/" + "/".join(segments)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Pages, by name in order, that answer one route."""

    pages: tuple[Page, ...]


def conflicts(pages: Iterable[Page]) -> list[Conflict]:
    """Return the groups of pages whose routes are the same but for the names of parameters."""
    by_shape: dict[tuple[str, ...], list[Page]] = defaultdict(list)
    for page in pages:
        by_shape[Pattern.parse(page.route).shape].append(page)
    return [Conflict(tuple(sorted(group, key=lambda page: page.name))) for group in by_shape.values() if len(group) > 1]
