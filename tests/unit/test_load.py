"""The counts of several proxies, added up."""

from __future__ import annotations

from bisect import bisect_left

from tqserver.control.load import Answers, Loads, PageLoad, WorkerLoad
from tqserver.model.latency import BOUNDS, BUCKETS
from tqserver.wire.messages import Counters, RouteCount, WorkerCount


def counters(
    *, requests: int, served: int = 0, in_flight: int = 0, silent: int = 0, answered: RouteCount | None = None
) -> Counters:
    """``requests`` since the last time, of which the worker has had ``served`` in all."""
    return Counters(
        connections=2,
        routes=[answered or RouteCount("p", requests, 1, in_flight, 3)],
        workers=[WorkerCount(7, served or requests, in_flight, silent)],
    )


def test_proxies_are_added_up() -> None:
    loads = Loads()
    assert not loads.has_heard
    loads.heard("proxy-0", counters(requests=10, in_flight=1), 0.0)
    loads.heard("proxy-1", counters(requests=5, in_flight=2, silent=2), 0.0)
    assert loads.has_heard
    assert loads.page("p") == PageLoad(requests=15, failures=2, in_flight=3, waiting=6)
    assert loads.worker(7) == WorkerLoad(requests=15, in_flight=3, silent=2)
    assert loads.connections == 4
    assert loads.page("other") == PageLoad()


def test_what_is_heard_names_the_pages_and_their_requests_since() -> None:
    loads = Loads()
    assert loads.heard("proxy-0", counters(requests=10), 0.0)["p"].requests == 10
    assert loads.heard("proxy-0", counters(requests=2), 0.0)["p"].requests == 2
    assert loads.page("p").requests == 12
    assert loads.heard("proxy-0", Counters(2, []), 0.0) == {}


def test_a_page_that_a_proxy_does_not_name_has_nothing_in_flight_there() -> None:
    loads = Loads()
    loads.heard("proxy-0", counters(requests=10, in_flight=4), 0.0)
    loads.heard("proxy-1", counters(requests=1, in_flight=1), 0.0)
    loads.heard("proxy-0", Counters(2, []), 1.0)
    assert loads.page("p") == PageLoad(requests=11, failures=2, in_flight=1, waiting=3)


def test_a_proxy_that_ends_takes_no_count_along() -> None:
    """Its successor has the same name and counts from nothing; what was in flight ended with it."""
    loads = Loads()
    loads.heard("proxy-0", counters(requests=10, in_flight=4), 0.0)
    loads.ended("proxy-0", alive=[7])
    assert loads.page("p") == PageLoad(requests=10, failures=1)
    assert loads.worker(7) == WorkerLoad(requests=10)
    assert loads.heard("proxy-0", counters(requests=3), 0.0)["p"].requests == 3
    assert loads.page("p").requests == loads.worker(7).requests == 13
    loads.ended("proxy-0", alive=[])
    assert loads.worker(7).requests == 0


# --- answers ------------------------------------------------------------------------------------------------


def answered(count: int, seconds: float, *, code: int = 2) -> Counters:
    """So many answers that took so long each."""
    codes, durations = [0] * 6, [0] * BUCKETS
    codes[code], durations[bisect_left(BOUNDS, seconds)] = count, count
    row = RouteCount("p", count, 0, 0, 0, codes=codes, durations=durations, seconds=count * seconds)
    return counters(requests=count, answered=row)


def test_answers_are_added_up_over_proxies_and_their_ends() -> None:
    loads = Loads()
    loads.heard("proxy-0", answered(3, 0.5), 0.0)
    loads.ended("proxy-0", alive=[])
    loads.heard("proxy-0", answered(2, 0.25, code=5), 0.0)
    loads.heard("proxy-1", answered(1, 0.25), 0.0)
    answers = loads.answers("p")
    assert list(answers.codes) == [0, 0, 4, 0, 0, 2]
    assert sum(answers.durations) == 6
    assert answers.seconds == 2.25
    assert loads.answers("other") == Answers()


def test_cut_answers_are_counted_without_any_that_ended() -> None:
    loads = Loads()
    loads.heard("proxy-0", counters(requests=1, answered=RouteCount("p", 0, 0, 1, 0, cut=1)), 0.0)
    assert loads.answers("p") == Answers(cut=1)


def test_quantiles_are_of_the_last_minute() -> None:
    loads = Loads()
    loads.heard("proxy-0", answered(100, 10.0), 1000.0)
    for moment in range(1030, 1060):
        loads.heard("proxy-0", answered(1, 0.1), float(moment))
    assert loads.latency("p", 0.5, 1059.0) > 5.0  # type: ignore[operator]
    assert loads.latency("p", 0.5, 1070.0) <= 0.1  # type: ignore[operator]
    loads.heard("proxy-0", answered(1, 0.1), 1100.0)
    assert loads.latency("p", 0.99, 1100.0) <= 0.1  # type: ignore[operator]
    assert loads.latency("p", 0.5, 1300.0) is None
    assert loads.latency("other", 0.5, 1000.0) is None


# --- rates --------------------------------------------------------------------------------------------------


def rated(*moments: float) -> Loads:
    """Twenty requests a second, counted at these moments."""
    loads, before = Loads(), 0.0
    for moment in moments:
        loads.heard("proxy-0", counters(requests=int((moment - before) * 20)), moment)
        before = moment
    return loads


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    assert rated(*range(31)).requests_per_second("p", 30.0) == 20.0


def test_the_rate_falls_when_nothing_comes_any_more() -> None:
    loads = rated(*range(11))
    assert 0.0 < loads.requests_per_second("p", 15.0) < 20.0
    assert loads.requests_per_second("p", 70.0) == 0.0


def test_the_first_count_is_no_rate_and_a_page_without_any_has_none() -> None:
    assert rated(50.0).requests_per_second("p", 50.0) == 0.0
    assert Loads().requests_per_second("p", 50.0) == 0.0
