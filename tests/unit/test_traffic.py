"""Counts of proxies, added up."""

from __future__ import annotations

from tqserver.control.traffic import Traffic
from tqserver.wire.messages import Counters, RouteCount


def counters(requests: int, failures: int = 0, in_flight: int = 0, waiting: int = 0, page: str = "p") -> Counters:
    return Counters(0, [RouteCount(page, requests, failures, in_flight, waiting)])


def test_nothing_is_known_until_a_proxy_has_counted() -> None:
    traffic = Traffic()
    assert traffic.of("p", 0.0) is None
    traffic.heard(1, counters(5, page="other"), 0.0)
    silent = traffic.of("p", 0.0)
    assert silent is not None
    assert silent.requests == 0


def test_proxies_are_added_up() -> None:
    traffic = Traffic()
    traffic.heard(1, counters(5, 1, 2, 3), 0.0)
    traffic.heard(2, counters(7, 0, 1, 0), 0.0)
    found = traffic.of("p", 0.0)
    assert found is not None
    assert (found.requests, found.failures, found.in_flight, found.waiting) == (12, 1, 3, 3)


def test_what_an_ended_proxy_counted_stays_and_what_it_had_in_flight_does_not() -> None:
    traffic = Traffic()
    traffic.heard(1, counters(5, 1, 2, 3), 0.0)
    traffic.only(set())
    traffic.heard(2, counters(1), 1.0)
    found = traffic.of("p", 1.0)
    assert found is not None
    assert (found.requests, found.failures, found.in_flight, found.waiting) == (6, 1, 0, 0)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    traffic = Traffic()
    for second in range(31):
        traffic.heard(1, counters(second * 20), float(second))
    assert rate(traffic, 30.0) == 20.0


def test_the_rate_falls_when_nothing_comes_any_more() -> None:
    traffic = Traffic()
    for second in range(11):
        traffic.heard(1, counters(second * 20), float(second))
    assert rate(traffic, 15.0) < 20.0
    assert rate(traffic, 10.0 + 60.0) == 0.0


def test_the_first_count_is_no_rate() -> None:
    traffic = Traffic()
    traffic.heard(1, counters(1000), 5.0)
    assert rate(traffic, 5.0) == 0.0


def rate(traffic: Traffic, now: float) -> float:
    found = traffic.of("p", now)
    assert found is not None
    return found.requests_per_second
