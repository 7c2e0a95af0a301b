"""Routing against the rules of its docstring, and normalisation against what attackers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.model.errors import PageError
from tqserver.model.pages import Page
from tqserver.model.routing import Pattern, RouteTable, conflicts, normalise


def table(*routes: str) -> RouteTable[str]:
    return RouteTable((Pattern.parse(route), route) for route in routes)


def answer(path: str, *routes: str) -> str | None:
    match = table(*routes).match(path)
    return match.value if match else None


@pytest.mark.parametrize(
    ("path", "routes", "expected"),
    [
        ("/api/users", ["/api/users"], "/api/users"),
        ("/api/users/7", ["/api/users"], "/api/users"),
        ("/api/usersx", ["/api/users"], None),
        ("/api", ["/api/users"], None),
        ("/api/users/", ["/api/users"], "/api/users"),
        ("/api//users", ["/api/users"], "/api/users"),
        ("/", ["/"], "/"),
        ("/anything/else", ["/"], "/"),
        ("/", ["/api"], None),
        ("/", ["/[id]"], None),
        ("/", ["/[...rest]"], None),
        ("/", ["/", "/[id]", "/[...rest]"], "/"),
        ("/x", ["/", "/[...rest]"], "/[...rest]"),
        ("/x", ["/[id]", "/[...rest]"], "/[id]"),
        ("/x", ["/[id]", "/x"], "/x"),
        ("/x/y", ["/[id]", "/[...rest]"], "/[id]"),
        ("/users/7/posts", ["/users", "/users/[id]"], "/users/[id]"),
        ("/users/7/posts", ["/users/[id]", "/users/[id]/posts"], "/users/[id]/posts"),
        ("/users/me", ["/users/[id]", "/users/me"], "/users/me"),
        # the leftmost difference decides: a static segment is worth more than any number after it
        ("/a/b/c", ["/a/[x]", "/[y]/b/c"], "/a/[x]"),
        ("/a/b/c", ["/a", "/[y]/b/c"], "/a"),
        # the static branch leads nowhere: back to the parameter
        ("/a/c", ["/a/b", "/[x]/c"], "/[x]/c"),
        ("/a/c", ["/a/b", "/[x]/c", "/"], "/[x]/c"),
        ("/a/c", ["/a/b", "/[x]/d", "/[...rest]"], "/[...rest]"),
        ("/a/c", ["/a/b", "/[x]/d", "/"], "/"),
        ("/a/b/c/e", ["/a/b/c/d", "/a/[x]/c/f", "/[y]/b/c"], "/[y]/b/c"),
        ("/größe/7", ["/größe/[id]"], "/größe/[id]"),
    ],
)
def test_which_page_answers(path: str, routes: list[str], expected: str | None) -> None:
    assert answer(path, *routes) == expected
    assert answer(path, *reversed(routes)) == expected


@pytest.mark.parametrize(
    ("route", "path", "params"),
    [
        ("/users", "/users/7", {}),
        ("/users/[id]", "/users/7", {"id": "7"}),
        ("/users/[id]", "/users/7/posts", {"id": "7"}),
        ("/[a]/x/[b]", "/1/x/2", {"a": "1", "b": "2"}),
        ("/files/[...path]", "/files/a/b/c.txt", {"path": "a/b/c.txt"}),
        ("/[kind]/[...path]", "/files/a/b", {"kind": "files", "path": "a/b"}),
        ("/files/[...path]", "/files//a//b/", {"path": "a/b"}),
    ],
)
def test_parameters(route: str, path: str, params: dict[str, str]) -> None:
    match = table(route).match(path)
    assert match is not None
    assert match.params == params
    assert match.pattern == Pattern.parse(route)


def test_one_shape_twice_is_refused() -> None:
    for routes in [("/a", "/a"), ("/[x]", "/[y]"), ("/[...x]", "/[...y]"), ("/", "/")]:
        with pytest.raises(ValueError, match="one route"):
            table(*routes)


# --- against the rules, written in the most obvious way ---------------------------------------------------

SEGMENTS = ["a", "b", "c", "[x]", "[...r]"]


@st.composite
def some_routes(draw: st.DrawFn) -> list[str]:
    """Distinct routes over a small alphabet, so that they meet; a rest only at the end."""
    routes = set()
    for parts in draw(st.lists(st.lists(st.sampled_from(SEGMENTS), max_size=4), max_size=12)):
        until_rest = parts[: parts.index("[...r]") + 1] if "[...r]" in parts else parts
        named = [f"[x{place}]" if part == "[x]" else part for place, part in enumerate(until_rest)]
        routes.add("/" + "/".join(named))
    return sorted(routes)


def naive_rank(part: str) -> int:
    return 1 if part.startswith("[...") else 2 if part.startswith("[") else 3


def naive_match(routes: list[str], path: str) -> tuple[str, dict[str, str]] | None:
    wanted = [segment for segment in path.split("/") if segment]
    matching = []
    for route in routes:
        parts = [part for part in route.split("/") if part]
        params = {}
        for place, part in enumerate(parts):
            if place >= len(wanted):
                break
            if part.startswith("[..."):
                params[part[4:-1]] = "/".join(wanted[place:])
            elif part.startswith("["):
                params[part[1:-1]] = wanted[place]
            elif part != wanted[place]:
                break
        else:
            matching.append(([naive_rank(part) for part in parts], route, params))
    return max(matching)[1:] if matching else None


@given(some_routes(), st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=6))
def test_agrees_with_the_naive_matcher(routes: list[str], segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    match = table(*routes).match(path)
    assert (match and (match.value, match.params)) == naive_match(routes, path)


# --- patterns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "complaint"),
    [
        ("users", "does not begin with /"),
        ("", "does not begin with /"),
        ("/[", "not a parameter"),
        ("/]", "not a parameter"),
        ("/[]", "not a parameter"),
        ("/[...]", "not a parameter"),
        ("/[a-b!]", "not a parameter"),
        ("/[1a]", "not a parameter"),
        ("/[a", "not a parameter"),
        ("/a]", "not a parameter"),
        ("/x[a]", "not a parameter"),
        ("/[a]x", "not a parameter"),
        ("/[[a]]", "not a parameter"),
        ("/[..a]", "not a parameter"),
        ("/users/[id]/[id]", "two parameters"),
        ("/[a]/[...a]", "two parameters"),
        ("/[...x]/y", "all that is left"),
        ("/[...x]/[...y]", "all that is left"),
        ("/users/", "no URL can name"),
        ("//users", "no URL can name"),
        ("/a/../b", "no URL can name"),
        ("/a\\b", "no URL can name"),
    ],
)
def test_bad_patterns_say_what_to_do(route: str, complaint: str) -> None:
    with pytest.raises(PageError, match=complaint.replace("[", r"\[")) as caught:
        Pattern.parse(route)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("route", "prefix"),
    [
        ("/", ""),
        ("/users", "/users"),
        ("/users/[id]/posts", "/users"),
        ("/[id]", ""),
        ("/a/b/[...c]", "/a/b"),
    ],
)
def test_static_prefix(route: str, prefix: str) -> None:
    assert Pattern.parse(route).static_prefix == prefix


def named(*names: str) -> list[Page]:
    return [Page(name, f"/site/pages/{name}", "python", "main.py") for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["users/[id]", "users/[name]"], [["users/[id]", "users/[name]"]]),
        (["api/index", "api"], [["api", "api/index"]]),
        (["[...a]", "[...b]", "[c]"], [["[...a]", "[...b]"]]),
        (["users/[id]", "users/[...id]", "users/id", "users", "index"], []),
        (["a", "a/index", "b/[x]/c", "b/[y]/c", "d"], [["a", "a/index"], ["b/[x]/c", "b/[y]/c"]]),
    ],
)
def test_conflicts(names: list[str], expected: list[list[str]]) -> None:
    found = conflicts(named(*names))
    assert [[page.name for page in conflict.pages] for conflict in found] == expected


@given(some_routes())
def test_pages_without_conflict_make_a_table(routes: list[str]) -> None:
    pages = named(*(route[1:] or "index" for route in routes))
    assert conflicts(pages) == []
    assert all(answer(route, *routes) == route for route in routes if "[" not in route)


# --- normalisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/api/users", "/api/users"),
        ("/api/users/", "/api/users"),
        ("//", "/"),
        ("//api///users//", "/api/users"),
        ("/a/./b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a//../b", "/b"),
        ("/.well-known/acme", "/.well-known/acme"),
        ("/a/...", "/a/..."),
        ("/a..b/..c", "/a..b/..c"),
        ("/gr%C3%B6%c3%9fe", "/größe"),
        ("/größe", "/größe"),
        ("/a%20b", "/a b"),
        ("/%61pi", "/api"),
        ("/a%3Fb%23c", "/a?b#c"),
        ("/a%252e%252e/b", "/a%2e%2e/b"),
        ("/a%252fb", "/a%2fb"),
        ("/a;v=1/b@c:d", "/a;v=1/b@c:d"),
        ("/..", None),
        ("/../etc", None),
        ("/a/../../etc", None),
        ("/%2e%2e/etc", None),
        ("/a%2fb", None),
        ("/a%2Fb", None),
        ("/..%2fetc", None),
        ("/a%5cb", None),
        ("/a%5Cb", None),
        ("/a\\..\\b", None),
        ("/a%00", None),
        ("/a\x00b", None),
        ("/a b", None),
        ("/a\r\nb", None),
        ("/a%", None),
        ("/a%4", None),
        ("/a%zz", None),
        ("/a%c0%afb", None),  # an overlong slash
        ("/a%ff", None),
        ("/a\udcff", None),  # the byte ff, read with surrogateescape
        ("/a?b", None),
        ("/a#b", None),
        ("*", None),
        ("", None),
        ("api", None),
        ("http://host/a", None),
    ],
)
def test_normalise(path: str, expected: str | None) -> None:
    assert normalise(path) == expected


@given(st.text(alphabet="/.%2eEfF5cC0aA\\ ~\u00f6", max_size=24))
def test_a_normalised_path_has_nothing_left_to_resolve(path: str) -> None:
    result = normalise("/" + path)
    if result is not None:
        segments = result[1:].split("/")
        assert result == "/" or not {"", ".", ".."} & set(segments)
        assert "\\" not in result and "\0" not in result
