"""The tables of states: what every walk along them keeps, and that nothing leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.model.errors import Fault, IllegalTransition
from tqserver.model.lifecycle import PAGE_MOVES, WORKER_MOVES, PageState, WorkerState, advance

TABLES: list[Any] = [WORKER_MOVES, PAGE_MOVES]
ANSWERING = {PageState.LIVE, PageState.UPDATING, PageState.STALE}  # a revision answers


@pytest.mark.parametrize("moves", TABLES)
def test_every_pair_of_states_is_a_move_or_refused(moves: Mapping[Any, frozenset[Any]]) -> None:
    for current in moves:
        for wanted in moves:
            if wanted in moves[current]:
                assert advance(moves, current, wanted) is wanted
            else:
                with pytest.raises(IllegalTransition) as caught:
                    advance(moves, current, wanted)
                assert current.value in str(caught.value)
                assert wanted.value in str(caught.value)
                assert caught.value.fault is Fault.PLATFORM


@pytest.mark.parametrize(("moves", "states"), [(WORKER_MOVES, WorkerState), (PAGE_MOVES, PageState)])
def test_the_table_knows_every_state(moves: Mapping[Any, frozenset[Any]], states: Any) -> None:
    assert set(moves) == set(states)
    assert set().union(*moves.values()) <= set(states)


def reachable(moves: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    found, new = {start}, {start}
    while new:
        new = set().union(*(moves[state] for state in new)) - found
        found |= new
    return found


def test_a_worker_can_reach_every_state_and_exit_from_each() -> None:
    assert reachable(WORKER_MOVES, WorkerState.STARTING) == set(WorkerState)
    for state in WorkerState:
        assert WorkerState.EXITED in reachable(WORKER_MOVES, state)


def test_a_page_can_reach_every_state_and_be_deleted_and_live_again_from_each() -> None:
    assert reachable(PAGE_MOVES, PageState.NEW) == set(PageState)
    for state in PageState:
        assert {PageState.GONE, PageState.LIVE} <= reachable(PAGE_MOVES, state)
        assert state is PageState.GONE or PageState.GONE in PAGE_MOVES[state]


@given(st.data())
def test_walks_of_a_worker(data: st.DataObject) -> None:
    """A worker never comes back: it is ready at most once, and each walk ends with its exit."""
    walk = [WorkerState.STARTING]
    while WORKER_MOVES[walk[-1]]:
        choices = sorted(WORKER_MOVES[walk[-1]], key=lambda state: state.value)
        walk.append(advance(WORKER_MOVES, walk[-1], data.draw(st.sampled_from(choices))))
    assert walk[-1] is WorkerState.EXITED
    assert len(set(walk)) == len(walk)
    if WorkerState.DRAINING in walk:
        assert WorkerState.READY in walk, "what never was ready has nothing to drain"


@given(st.data())
def test_walks_of_a_page(data: st.DataObject) -> None:
    """Last known good: a page that answers stops only by being deleted, or when its workers keep dying."""
    state = PageState.NEW
    for _ in range(data.draw(st.integers(0, 20))):
        choices = sorted(PAGE_MOVES[state], key=lambda state: state.value)
        wanted = advance(PAGE_MOVES, state, data.draw(st.sampled_from(choices)))
        if state in ANSWERING:
            assert wanted in ANSWERING | {PageState.GONE, PageState.FAILED}
        state = wanted
