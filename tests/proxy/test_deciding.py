"""Admission, balancing and forwarding: pure functions of what they are given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.proxy.admission import refused_body, refused_head, refused_partial_head
from tqserver.proxy.balancer import pick
from tqserver.proxy.forwarding import Peer, networks
from tqserver.wire.http1 import parse_request_head
from tqserver.wire.messages import RouteLimits, ServerLimits

LIMITS = ServerLimits(max_header_bytes=30_000)


@dataclass
class Loaded:
    in_flight: int


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_the_least_loaded_is_picked(loads: list[int], turn: int) -> None:
    assert pick([Loaded(load) for load in loads], turn).in_flight == min(loads)


def test_equals_alternate() -> None:
    first, second, busy = Loaded(0), Loaded(0), Loaded(1)
    picked = Counter(id(pick([first, busy, second], turn)) for turn in range(30))
    assert picked[id(first)] >= 10
    assert picked[id(second)] >= 10
    assert not picked[id(busy)]


@pytest.mark.parametrize(
    ("start", "field", "status"),
    [
        ("GET / HTTP/1.1", "A: b", None),
        ("GET / HTTP/1.1", "A: " + "b" * 30_000, 431),
        ("GET /" + "x" * 20000 + " HTTP/1.1", "A: b", 414),
        ("CONNECT a:1 HTTP/1.1", "A: b", 501),
        ("POST / HTTP/1.1", "Transfer-Encoding: chunked", None),
        ("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked", 501),
        ("POST / HTTP/1.1", "Expect: 100-continue", None),
        ("POST / HTTP/1.1", "Expect: the-impossible", 417),
    ],
)
def test_heads(start: str, field: str, status: int | None) -> None:
    request = parse_request_head(f"{start}\r\nHost: a\r\n{field}\r\n\r\n".encode())
    assert refused_head(request, LIMITS) == status


def test_heads_that_have_not_ended() -> None:
    assert refused_partial_head(b"GET / HTTP/1.1\r\nA: ", LIMITS) is None
    assert refused_partial_head(b"GET / HTTP/1.1\r\nA: " + b"x" * 30_000, LIMITS) == 431
    assert refused_partial_head(b"GET /" + b"x" * 20000, LIMITS) == 414


@pytest.mark.parametrize(
    ("size", "server", "route", "status"),
    [
        (10, 0, 0, None),
        (10, 10, 0, None),
        (11, 10, 0, 413),
        (11, 0, 10, 413),
        (11, 20, 10, 413),
        (-1, 1, 1, None),
    ],
)
def test_bodies(size: int, server: int, route: int, status: int | None) -> None:
    assert refused_body(size, ServerLimits(max_body=server), RouteLimits(max_body=route)) == status


@pytest.mark.parametrize(
    ("address", "trusted", "believed"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("::ffff:10.1.2.3", ["10.1.2.3"], True),
        ("::1", ["::1"], True),
        ("", ["0.0.0.0/0"], False),
    ],
)
def test_whom_to_believe(address: str, trusted: list[str], believed: bool) -> None:
    assert Peer(address, b"http", networks(trusted)).is_trusted is believed
