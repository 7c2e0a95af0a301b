"""From the name of a directory to its route."""

from __future__ import annotations

import pytest

from tqserver.model.pages import Page, is_hidden, route_of


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("index", "/"),
        ("api", "/api"),
        ("api/index", "/api"),
        ("api/users", "/api/users"),
        ("users/[id]", "/users/[id]"),
        ("users/[id]/index", "/users/[id]"),
        ("files/[...path]", "/files/[...path]"),
        ("index/index", "/index"),
        ("index/api", "/index/api"),
        ("indexes", "/indexes"),
        ("größe", "/größe"),
        ("a b", "/a b"),
    ],
)
def test_route_of(name: str, route: str) -> None:
    assert route_of(name) == route
    assert Page(name, f"/site/pages/{name}", "python", "main.py").route == route


@pytest.mark.parametrize(
    ("segment", "hidden"),
    [("_shared", True), (".git", True), ("..", True), ("api", False), ("a_b", False), ("a.b", False)],
)
def test_is_hidden(segment: str, hidden: bool) -> None:
    assert is_hidden(segment) is hidden
