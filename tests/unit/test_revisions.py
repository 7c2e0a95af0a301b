"""Which revisions are remembered, and which is gone back to."""

from __future__ import annotations

import pytest

from tqserver.control.revisions import KEPT, Revision, chosen, with_newest
from tqserver.model.errors import NotFound
from tqserver.model.pages import Page

ONE, TWO, THREE = (Revision(number, f"d{number}", content=f"c{number}") for number in (1, 2, 3))
BACK = Revision(4, "d2", content="c2", brings_back=2)
RECENT = (ONE, TWO, THREE)


def number_of(recent: tuple[Revision, ...], live: Revision | None, number: int | None = None) -> int:
    return chosen(recent, live, number, "/x").number


def test_without_a_number_it_is_the_one_before_the_live_one() -> None:
    assert number_of(RECENT, THREE) == 2


def test_again_and_again_it_goes_further_back() -> None:
    assert number_of((*RECENT, BACK), BACK) == 1


def test_what_differs_by_nothing_but_its_number_is_no_way_back() -> None:
    """A restart may build anew what is the same."""
    again = Revision(4, "other", content="c3")
    assert number_of((*RECENT, again), again) == 2


def test_where_nothing_is_live_it_is_the_last() -> None:
    assert number_of(RECENT, None) == 3


def test_any_that_is_known_can_be_named_also_by_what_it_brings_back() -> None:
    assert [number_of(RECENT, THREE, number) for number in (1, 2, 3)] == [1, 2, 3]
    assert number_of((ONE, BACK), BACK, 2) == 4


@pytest.mark.parametrize(
    ("recent", "live", "number", "message", "remedy"),
    [
        ((), None, None, "no revision of /x has been live yet", "tqserver wait"),
        ((ONE,), ONE, None, "no revision before the one that is live", "tqserver revisions"),
        (RECENT, THREE, 7, "/x has no revision 7", "now: 1, 2, 3"),
    ],
)
def test_there_is_none(
    recent: tuple[Revision, ...], live: Revision | None, number: int | None, message: str, remedy: str
) -> None:
    with pytest.raises(NotFound) as caught:
        chosen(recent, live, number, "/x")
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_the_last_ten_are_kept() -> None:
    recent: tuple[Revision, ...] = ()
    for number in range(15):
        recent = with_newest(recent, Revision(number, f"d{number}"))
    assert [revision.number for revision in recent] == list(range(15 - KEPT, 15))


def test_a_restart_takes_the_place_of_what_it_repeats_and_keeps_its_moment() -> None:
    recent = with_newest((ONE, Revision(2, "d2", at=5.0)), Revision(3, "d2", at=9.0))
    assert [(revision.number, revision.at) for revision in recent] == [(1, 0.0), (3, 5.0)]


def test_a_revision_is_run_as_it_was() -> None:
    page = Page("x", "/p/x", "go", "main.go")
    assert Revision(1, "d").of(page) == page
    was = Revision(1, "d", runtime="python", entry="main.py").of(page)
    assert (was.runtime, was.entry, was.name) == ("python", "main.py", "x")
