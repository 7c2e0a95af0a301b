"""Buckets of durations, and what their counts tell."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.model.latency import BOUNDS, BUCKETS, quantile


def counted(*seconds: float) -> list[int]:
    counts = [0] * BUCKETS
    for each in seconds:
        counts[bisect_left(BOUNDS, each)] += 1
    return counts


def test_nothing_answered_is_no_time_at_all() -> None:
    assert quantile(0.5, []) is quantile(0.5, counted()) is None


def test_within_a_bucket_answers_are_spread_evenly() -> None:
    """As in Prometheus: four answers between 10 and 20 ms."""
    assert quantile(0.5, counted(*[0.015] * 4)) == pytest.approx(0.015)
    assert quantile(1.0, counted(*[0.015] * 4)) == pytest.approx(0.02)


def test_the_slow_ones_show_in_the_tail_only() -> None:
    counts = counted(*[0.0015] * 98, 30.0, 30.0)
    assert quantile(0.5, counts) < 0.002  # type: ignore[operator]
    assert quantile(0.99, counts) > 20  # type: ignore[operator]


def test_beyond_all_bounds_the_last_is_said() -> None:
    assert quantile(0.5, counted(100.0)) == 60.0


@given(st.lists(st.floats(0, 59.9), min_size=1), st.floats(0.01, 1))
def test_an_estimate_lies_in_the_bucket_of_the_true_value(seconds: list[float], share: float) -> None:
    true = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    bucket = bisect_left(BOUNDS, true)
    estimate = quantile(share, counted(*seconds))
    assert estimate is not None
    assert (0.0, *BOUNDS)[bucket] <= estimate * (1 + 1e-9)
    assert estimate <= BOUNDS[bucket] * (1 + 1e-9)
