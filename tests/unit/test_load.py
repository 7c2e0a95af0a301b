"""The counts of several proxies, added up."""

from __future__ import annotations

from tqserver.control.load import Loads, PageLoad, WorkerLoad
from tqserver.wire.messages import Counters, RouteCount, WorkerCount


def counters(*, requests: int, in_flight: int = 0, silent: int = 0) -> Counters:
    return Counters(
        connections=2,
        routes=[RouteCount("p", requests, 1, in_flight, 3)],
        workers=[WorkerCount(7, requests, in_flight, silent)],
    )


def test_proxies_are_added_up() -> None:
    loads = Loads()
    loads.heard("proxy-0", counters(requests=10, in_flight=1), 0.0)
    loads.heard("proxy-1", counters(requests=5, in_flight=2, silent=2), 0.0)
    assert loads.page("p") == PageLoad(requests=15, failures=2, in_flight=3, waiting=6)
    assert loads.worker(7) == WorkerLoad(requests=15, in_flight=3, silent=2)
    assert loads.connections == 4
    assert loads.page("other") == PageLoad()


def test_what_is_heard_names_the_pages_that_changed_and_their_requests_since() -> None:
    loads = Loads()
    assert loads.heard("proxy-0", counters(requests=10), 0.0)["p"].requests == 10
    assert loads.heard("proxy-0", counters(requests=12), 0.0)["p"].requests == 2
    assert loads.heard("proxy-0", counters(requests=12), 0.0) == {}


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


def rated(*moments: float) -> Loads:
    """Twenty requests a second, counted at these moments."""
    loads = Loads()
    for moment in moments:
        loads.heard("proxy-0", counters(requests=int(moment * 20)), moment)
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
