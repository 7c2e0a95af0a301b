"""Why a page answers: the explanation never says anything else than the routing table does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.model.errors import NotFound
from tqserver.model.explain import explain
from tqserver.model.pages import Page, find
from tqserver.model.routing import Pattern, RouteTable, conflicts, normalise

NAMES = ["index", "api", "api/users", "api/users/[id]", "api/[...rest]", "files/[...rest]", "[lang]/about"]


def pages(names: list[str]) -> list[Page]:
    return [Page(name, f"/site/pages/{name}", "python", "main.py") for name in names]


@pytest.mark.parametrize(
    ("url", "page", "reason"),
    [
        ("/", "index", "it matches the whole path"),
        ("/nothing/here", "index", "pages/index answers what nothing else does"),
        ("http://localhost:8080/api/users/7?full=1", "api/users/[id]", "it matches the whole path"),
        ("api/users/7/posts", "api/users/[id]", "a page answers all below it: /posts is left to it"),
        ("/api/x/y", "api/[...rest]", "it matches the whole path"),
        ("/apix", "index", "pages/index answers what nothing else does"),
    ],
)
def test_the_page_and_why(url: str, page: str, reason: str) -> None:
    explanation = explain(url, pages(NAMES))
    assert (explanation.page, explanation.reason) == (page, reason)


def test_the_others_and_why_not() -> None:
    said = {candidate.route: candidate.reason for candidate in explain("/api/users", pages(NAMES)).candidates}
    assert said["/api/users"] == "the strongest that matches"
    assert said["/api/[...rest]"].startswith("matches, but /api/users is stricter: its segment 2 is a name")
    assert said["/api"] == "matches, but /api/users has more segments"
    assert said["/api/users/[id]"] == "does not match: the path ends before segment 3"
    assert "/files/[...rest]" not in said  # nobody would ask


@pytest.mark.parametrize("url", ["/my page", "/my%20page", "http://localhost/my page?x=1 2"])
def test_a_blank_is_what_a_client_makes_of_it(url: str) -> None:
    explanation = explain(url, pages(["my page"]))
    assert (explanation.page, explanation.path) == ("my page", "/my page")
    assert "/my%20page" in explanation.url


def test_parameters() -> None:
    assert explain("/files/a/b%20c", pages(NAMES)).parameters == {"rest": "a/b c"}


def test_no_page() -> None:
    explanation = explain("/x", pages(["api"]))
    assert (explanation.page, explanation.candidates) == ("", [])
    assert "no pages/index" in explanation.reason


def test_a_path_that_is_refused() -> None:
    explanation = explain("/a%2fb", pages(NAMES))
    assert (explanation.page, explanation.path) == ("", "")
    assert "400" in explanation.reason


SEGMENT = st.sampled_from(["a", "b", "[x]"])
NAME = st.lists(SEGMENT, min_size=1, max_size=3, unique=True).map("/".join)
REST = st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True).map(lambda parts: "/".join([*parts, "[...r]"]))


@given(st.lists(NAME | REST | st.just("index"), unique=True, max_size=8), st.lists(st.sampled_from("abc"), max_size=4))
def test_it_agrees_with_the_table(names: list[str], segments: list[str]) -> None:
    found = pages(names)
    if conflicts(found):
        return
    path = "/" + "/".join(segments)
    normal = normalise(path)
    assert normal is not None
    match = RouteTable([(Pattern.parse(page.route), page) for page in found]).match(normal)
    explanation = explain(path, found)
    assert explanation.page == (match.value.name if match else "")
    assert [candidate.page for candidate in explanation.candidates if candidate.answers] == (
        [match.value.name] if match else []
    )


@pytest.mark.parametrize(
    ("given_as", "name"),
    [
        ("/", "index"),
        ("index", "index"),
        ("/api", "api"),
        ("api", "api"),
        ("pages/api", "api"),
        ("/api/users/", "api/users"),
        ("/api/users/[id]", "api/users/[id]"),
    ],
)
def test_a_page_is_found_by_its_route_or_name(given_as: str, name: str) -> None:
    assert find(NAMES, given_as) == name


def test_the_nearest_is_named() -> None:
    with pytest.raises(NotFound, match=r"/api/user.*did you mean /api/users\?"):
        find(NAMES, "/api/user")
    with pytest.raises(NotFound, match="tqserver routes"):
        find(NAMES, "/zzzzzzzzzzzz")
