"""What control decides from values alone."""

from __future__ import annotations

import pytest

from tqserver.control.plan import (
    RestartPolicy,
    backoff_seconds,
    difference,
    needs_discovery,
    pages_concerned,
    pooled_idle_seconds,
)
from tqserver.model.config import WorkerSettings
from tqserver.model.pages import Page


def test_deaths_in_a_row_are_waited_out_ever_longer_up_to_half_a_minute() -> None:
    policy = RestartPolicy()
    assert [policy.died(0.0) for _ in range(4)] == [0.0, 0.1, 0.2, 0.4]
    assert policy.died(60.0) == 0.0
    assert backoff_seconds(1000) == 30.0


def page(name: str) -> Page:
    return Page(name, f"/p/{name}", "python", "main.py")


def test_difference() -> None:
    known = {name: page(name) for name in ("a", "b", "c")}
    altered = Page("b", "/p/b", "go", "main.go")
    found = {"b": altered, "c": page("c"), "d": page("d")}
    change = difference(known, found)
    assert (change.appeared, change.altered, change.vanished) == ((page("d"),), (altered,), ("a",))


def test_a_change_concerns_the_deepest_page_around_it_and_who_read_it() -> None:
    pages = [page("a"), page("a/b"), page("c")]
    read_by = {"/lib/x.py": {"c"}}
    assert pages_concerned("/p/a/b/x.html", pages, read_by) == {"a/b"}
    assert pages_concerned("/p/a/x.html", pages, read_by) == {"a"}
    assert pages_concerned("/lib/x.py", pages, read_by) == {"c"}
    assert pages_concerned("/p", pages, read_by) == {"a", "a/b", "c"}
    assert pages_concerned("/other", pages, read_by) == frozenset()


def test_an_edit_of_a_known_entry_file_needs_no_scan() -> None:
    assert not needs_discovery("/p/a/main.py", [page("a")], exists=True)
    assert not needs_discovery("/p/a/x.html", [page("a")], exists=True)
    assert needs_discovery("/p/n/main.py", [page("a")], exists=True)
    assert needs_discovery("/p/a/main.py", [page("a")], exists=False)


@pytest.mark.parametrize(
    ("idle", "read", "pooled"),
    [(120, 30, 60), (61, 30, 59), (10, 30, 8), (1, 30, 0), (0, 30, 28), (0, 0, 60)],
)
def test_a_pooled_connection_is_closed_before_its_worker_does(idle: float, read: float, pooled: float) -> None:
    settings = WorkerSettings(idle_timeout_seconds=idle, read_timeout_seconds=read)
    assert pooled_idle_seconds(settings) == pooled
