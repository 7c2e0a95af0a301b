"""Which page answers a path.

A pattern answers its own path and everything below it, by whole segments: ``/api/users`` answers
``/api/users`` and ``/api/users/7``, never ``/api/usersx``. ``[id]`` stands for one segment, ``[...rest]`` for
one or more, and ``/`` has no segments and so answers everything.

The order is total. Rank a pattern's segments static 3, ``[id]`` 2, ``[...rest]`` 1, and its end 0; of all
patterns that match a path, the one whose ranks are the greatest, compared from the left, answers. Hence per
segment static beats ``[id]`` beats ``[...rest]``, and more segments beat fewer. Two patterns with equal ranks
that match one path are the same but for the names of their parameters: a conflict, found before there is a
table.

Since a pattern answers all below it, going back is rare but real: with ``/a/b`` and ``/[x]/c``, the path
``/a/c`` enters the static ``a``, finds nothing, and is answered by ``/[x]/c``. With a page ``/a`` as well it
is answered by ``/a``: a match in the static branch wins however short it is.

A dictionary of whole paths would be quicker for static hits, and no help for anything below them; a trie
takes as many steps as the path has segments, whatever the number of routes.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from tqserver.model.errors import Location, PageError
from tqserver.model.pages import Page

ValueT = TypeVar("ValueT")


class SegmentKind(enum.IntEnum):
    """What a segment of a pattern matches; the value is its rank."""

    REST = 1  # [...name]: all that is left, one segment or more
    PARAMETER = 2  # [name]: one segment
    STATIC = 3  # itself


@dataclass(frozen=True, slots=True)
class Segment:
    """``text`` is what a static segment equals, percent-decoded, or the parameter's name."""

    kind: SegmentKind
    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A route, parsed. ``text`` is the route as it was written ("/users/[id]")."""

    text: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse "/users/[id]/[...rest]". Raises :class:`PageError`, whose remedy says what to rename."""
        if not text.startswith("/"):
            raise _refusal(text, f"the route {text!r} does not begin with /", "write a slash in front of it")
        parts = text[1:].split("/") if text != "/" else []
        segments = tuple(_segment(part, text) for part in parts)
        if any(segment.kind is SegmentKind.REST for segment in segments[:-1]):
            raise _refusal(
                text, "[...name] takes all that is left of a path", "make it the last directory of the route"
            )
        names = [segment.text for segment in segments if segment.kind is not SegmentKind.STATIC]
        for name in names:
            if names.count(name) > 1:
                raise _refusal(text, f"two parameters are called {name!r}", "rename one of the directories")
        return cls(text, segments)

    @property
    def shape(self) -> tuple[str, ...]:
        """What makes two routes one: a static segment's text, and of a parameter only that it is one."""
        return tuple(
            segment.text if segment.kind is SegmentKind.STATIC else f"[{segment.kind.name}]"
            for segment in self.segments
        )

    @property
    def static_prefix(self) -> str:
        """The part before the first parameter: "/users" of "/users/[id]", "" of "/" and of "/[id]"."""
        prefix = ""
        for segment in self.segments:
            if segment.kind is not SegmentKind.STATIC:
                break
            prefix += "/" + segment.text
        return prefix

    def parameters(self, path: Sequence[str]) -> dict[str, str]:
        """Return the parameters' values in the segments of a path that matches; a rest keeps its slashes."""
        values = {}
        for place, segment in enumerate(self.segments):
            if segment.kind is SegmentKind.PARAMETER:
                values[segment.text] = path[place]
            elif segment.kind is SegmentKind.REST:
                values[segment.text] = "/".join(path[place:])
        return values

    def __str__(self) -> str:
        return self.text


def _segment(part: str, route: str) -> Segment:
    if "[" in part or "]" in part:
        inner = part[1:-1]
        kind = SegmentKind.REST if inner.startswith("...") else SegmentKind.PARAMETER
        name = inner.removeprefix("...")
        if part[0] != "[" or part[-1] != "]" or not name.isidentifier():
            raise _refusal(
                route,
                f"{part!r} is not a parameter",
                "write [name] or [...name], with a name of letters, digits and _",
            )
        return Segment(kind, name)
    if part in ("", ".", "..") or "\\" in part or "\0" in part:
        # normalise() resolves or refuses these, so that no request could ever reach the page
        raise _refusal(route, f"no URL can name the segment {part!r}", "rename the directory")
    return Segment(SegmentKind.STATIC, part)


def _refusal(route: str, message: str, remedy: str) -> PageError:
    return PageError(message, remedy=remedy, location=Location(f"pages{route}"))


class Match(Generic[ValueT]):
    """The pattern that answers a path, the value it stands for, and the parameters."""

    __slots__ = ("_path", "pattern", "value")

    def __init__(self, pattern: Pattern, value: ValueT, path: Sequence[str] = ()) -> None:
        self.pattern = pattern
        self.value = value
        self._path = path

    @property
    def params(self) -> dict[str, str]:
        """The parameters' values by name, percent-decoded; built anew each time it is asked for."""
        return self.pattern.parameters(self._path)


class _Leaf(Generic[ValueT]):
    """Where a pattern ends. ``whole`` is the match of a pattern without parameters: one for all requests."""

    __slots__ = ("pattern", "value", "whole")

    def __init__(self, pattern: Pattern, value: ValueT) -> None:
        self.pattern = pattern
        self.value = value
        is_static = all(segment.kind is SegmentKind.STATIC for segment in pattern.segments)
        self.whole = Match(pattern, value) if is_static else None


class _Node(Generic[ValueT]):
    """The patterns that begin alike.

    ``end`` answers a path that ends here; ``below`` one that goes on: the rest parameter if there is one.
    """

    __slots__ = ("below", "end", "parameter", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node[ValueT]] = {}
        self.parameter: _Node[ValueT] | None = None
        self.below: _Leaf[ValueT] | None = None
        self.end: _Leaf[ValueT] | None = None


class RouteTable(Generic[ValueT]):
    """Patterns and what they stand for. Immutable: a change of routes is a new table."""

    __slots__ = ("_root",)

    def __init__(self, routes: Iterable[tuple[Pattern, ValueT]]) -> None:
        """Build the table. Raises ValueError if two patterns have one shape."""
        self._root: _Node[ValueT] = _Node()
        for pattern, value in routes:
            _add(self._root, _Leaf(pattern, value))

    def match(self, path: str) -> Match[ValueT] | None:
        """Return the best match for a path as :func:`normalise` returns it; None if no page answers.

        Empty segments do not count: ``/api/users/`` and ``/api//users`` are answered as ``/api/users``.
        """
        if path[-1:] == "/" or "//" in path:
            segments = [segment for segment in path.split("/") if segment]
        else:
            segments = path.split("/")
            del segments[0]
        leaf = _best(self._root, segments, 0)
        if leaf is None:
            return None
        return leaf.whole or Match(leaf.pattern, leaf.value, segments)


def _add(node: _Node[ValueT], leaf: _Leaf[ValueT]) -> None:
    for segment in leaf.pattern.segments:
        if segment.kind is SegmentKind.REST:
            if node.below is not None and node.below is not node.end:
                raise ValueError(f"{leaf.pattern} and {node.below.pattern} are one route")
            node.below = leaf
            return
        if segment.kind is SegmentKind.STATIC:
            node = node.static.setdefault(segment.text, _Node())
        else:
            if node.parameter is None:
                node.parameter = _Node()
            node = node.parameter
    if node.end is not None:
        raise ValueError(f"{leaf.pattern} and {node.end.pattern} are one route")
    node.end = leaf
    if node.below is None:
        node.below = leaf


def _best(node: _Node[ValueT], path: Sequence[str], place: int) -> _Leaf[ValueT] | None:
    """Return the best leaf below ``node`` for ``path[place:]``.

    A loop, except where a static and a parameter branch both lead on: only there can it be wrong to go on.
    """
    best: _Leaf[ValueT] | None = None
    while place < len(path):
        if node.below is not None:
            best = node.below  # deeper is better: each level replaces the one above
        parameter = node.parameter
        child = node.static.get(path[place])
        place += 1
        if child is None:
            if parameter is None:
                return best
            child = parameter
        elif parameter is not None:
            found = _best(child, path, place)
            if found is not None:
                return found
            child = parameter
        node = child
    return node.end or best


_PLAIN = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9_.~!$&'()*+,;=:@-]+)+|/")
_REFUSED = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:2[Ff]|5[Cc]|00)|[\\?#\x00-\x20\x7f]")


def normalise(path: str) -> str | None:
    """Return the path by which a request is matched, or None for one to refuse with 400.

    ``path`` is the path of the request target, without its query, its bytes read as UTF-8 with
    ``surrogateescape``. The result begins with ``/``, is percent-decoded text, and has no empty, ``.`` or
    ``..`` segment. It serves to choose a page and nothing else: the worker is sent the target unchanged, so
    the worst that a trick can do is to confuse the page that it was matched with. In order:

    - a target that does not begin with ``/`` (``*``, ``host:port``) is no path;
    - an encoded slash, backslash or NUL is refused, for what one program takes as a separator another takes
      as text, and a NUL ends text in a third; so are a bare backslash, blanks and control bytes, ``?`` and
      ``#``, and ``%`` without two digits;
    - everything else is percent-decoded, once (RFC 3986 2.4: ``%252e`` is the text ``%2e``), to UTF-8; other
      bytes, overlong forms of ``/`` among them, are refused;
    - empty segments are dropped, as most servers do, before dots are resolved: ``/a//../b`` is ``/b``;
    - ``.`` and ``..``, encoded or not, are resolved (RFC 3986 5.2.4); above the root they are refused rather
      than ignored, since no honest client sends that.
    """
    if _PLAIN.fullmatch(path) is not None:
        return path  # nearly every request
    if not path.startswith("/") or _REFUSED.search(path) is not None:
        return None
    try:
        decoded = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError:
        return None
    segments: list[str] = []
    for segment in decoded.split("/"):
        if segment == "..":
            if not segments:
                return None
            segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Pages, in order of their names, that answer one route."""

    pages: tuple[Page, ...]


def conflicts(pages: Iterable[Page]) -> list[Conflict]:
    """Return the groups of pages whose routes are one, whatever their parameters are called.

    Raises :class:`PageError` if a page's name is no route: such pages are refused before.
    """
    by_shape: Mapping[tuple[str, ...], list[Page]] = defaultdict(list)
    for page in pages:
        by_shape[Pattern.parse(page.route).shape].append(page)
    return [Conflict(tuple(sorted(group, key=lambda page: page.name))) for group in by_shape.values() if len(group) > 1]
