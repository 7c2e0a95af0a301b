"""What control decides from values alone."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.control.plan import (
    APPLIED_WHILE_RUNNING,
    Idleness,
    Readers,
    RestartPolicy,
    RetryPolicy,
    backoff_seconds,
    difference,
    jittered,
    needed_workers,
    needs_discovery,
    needs_new_workers,
    pages_concerned,
    pooled_idle_seconds,
)
from tqserver.model.config import WorkerSettings
from tqserver.model.pages import Page


def test_deaths_in_a_row_are_waited_out_ever_longer_up_to_half_a_minute() -> None:
    policy = RestartPolicy()
    assert [policy.died(0.0, now) for now in range(4)] == [0.0, 0.1, 0.2, 0.4]
    assert policy.died(60.0, 5.0) == 0.0
    assert backoff_seconds(1000) == 30.0


def test_a_page_that_never_started_is_tried_again_ever_more_seldom() -> None:
    policy = RetryPolicy()
    assert [policy.failed("a", 0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert [policy.failed("b", 3) for _ in range(3)] == [1.0, 2.0, None]
    policy.tries = 1000
    assert policy.failed("b", 0) == 30.0


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
    read_by = {"/lib/x.py": {"c"}, "/pkg/greet": {"a"}}
    assert pages_concerned("/p/a/b/x.html", pages, read_by) == {"a/b"}
    assert pages_concerned("/p/a/x.html", pages, read_by) == {"a"}
    assert pages_concerned("/lib/x.py", pages, read_by) == {"c"}
    assert pages_concerned("/p", pages, read_by) == {"a", "a/b", "c"}
    assert pages_concerned("/lib/new.py", pages, read_by) == frozenset()
    assert pages_concerned("/lib", pages, read_by) == {"c"}
    assert pages_concerned("/pkg/greet", pages, read_by) == {"a"}
    assert pages_concerned("/pkg/greet/new.go", pages, read_by) == {"a"}
    assert pages_concerned("/pkg/greet/deep/new.go", pages, read_by) == frozenset()
    assert pages_concerned("/pkg/greeting", pages, read_by) == frozenset()
    assert pages_concerned("/other", pages, read_by) == frozenset()


def test_what_a_page_no_longer_reads_concerns_it_no_more() -> None:
    readers = Readers()
    readers.replace("a", frozenset({"/lib/x", "/lib/y"}))
    readers.replace("b", frozenset({"/lib/y"}))
    assert readers.by_path == {"/lib/x": {"a"}, "/lib/y": {"a", "b"}}
    readers.replace("a", frozenset({"/lib/z"}))
    assert readers.by_path == {"/lib/y": {"b"}, "/lib/z": {"a"}}
    readers.replace("b", frozenset())
    assert readers.by_path == {"/lib/z": {"a"}}


def test_an_edit_of_a_known_entry_file_needs_no_scan() -> None:
    assert not needs_discovery("/p/a/main.py", [page("a")], exists=True)
    assert not needs_discovery("/p/a/x.html", [page("a")], exists=True)
    assert needs_discovery("/p/n/main.py", [page("a")], exists=True)
    assert needs_discovery("/p/a/main.py", [page("a")], exists=False)


def test_a_policy_is_spent_by_deaths_within_its_period() -> None:
    policy = RestartPolicy(most=3, period_seconds=10.0)
    for now, spent in ((0.0, False), (5.0, False), (11.0, False), (12.0, True)):
        policy.died(0.0, now)
        assert policy.is_spent is spent, now
    assert not RestartPolicy(most=0, period_seconds=10.0, recent=[1.0] * 100).is_spent


def test_how_many_workers_a_load_needs() -> None:
    assert needed_workers(0, 0, 0) == needed_workers(0, 0, 4) == 0
    assert needed_workers(0, 7, 4) == needed_workers(100, 0, 0) == 1
    assert [needed_workers(n, 0, 4) for n in (1, 4, 5, 9)] == [1, 1, 2, 3]


def test_a_worker_is_surplus_when_fewer_would_have_been_enough_for_so_long() -> None:
    idleness = Idleness()
    idleness.observe(3, 3, now=0.0)
    idleness.observe(1, 3, now=8.0)
    assert idleness.surplus(1, 10.0, now=9.9) == 0
    assert idleness.next_due(1, 10.0) == 10.0
    assert idleness.surplus(1, 10.0, now=10.0) == 2
    idleness.observe(2, 3, now=10.0)
    assert idleness.surplus(1, 10.0, now=10.0) == 1
    assert idleness.surplus(0, 10.0, now=20.0) == 3
    idleness.observe(0, 1, now=20.0)  # two were stopped
    assert idleness.next_due(1, 10.0) is None


def test_a_worker_that_just_came_is_not_surplus() -> None:
    idleness = Idleness()
    idleness.observe(0, 1, now=0.0)
    idleness.observe(0, 2, now=50.0)
    assert idleness.surplus(1, 10.0, now=50.0) == 0


@given(st.integers(10, 10**6), st.integers(1, 10**6))
def test_jitter_keeps_within_a_tenth(limit: int, number: int) -> None:
    assert 0.9 * limit - 0.5 <= jittered(limit, number) <= 1.1 * limit + 0.5


def test_jitter_spreads() -> None:
    assert len({jittered(1000, number) for number in range(50)}) > 40


def test_only_what_a_worker_is_told_takes_new_workers() -> None:
    plain = WorkerSettings()
    for member in dataclasses.fields(WorkerSettings):
        changed = dataclasses.replace(plain, **{member.name: "another"})
        assert needs_new_workers(plain, changed) is (member.name not in APPLIED_WHILE_RUNNING)
    names = {member.name for member in dataclasses.fields(WorkerSettings)}
    assert names >= APPLIED_WHILE_RUNNING
    assert {"env", "gomaxprocs", "log_file"}.isdisjoint(APPLIED_WHILE_RUNNING)


@pytest.mark.parametrize(
    ("idle", "read", "pooled"),
    [(120, 30, 60), (61, 30, 59), (10, 30, 8), (1, 30, 0), (0, 30, 28), (0, 0, 60)],
)
def test_a_pooled_connection_is_closed_before_its_worker_does(idle: float, read: float, pooled: float) -> None:
    settings = WorkerSettings(idle_timeout_seconds=idle, read_timeout_seconds=read)
    assert pooled_idle_seconds(settings) == pooled
