"""Which fields go on, and what their values mean."""

from __future__ import annotations

import pytest

from tqserver.wire.headers import (
    REQUEST_STOPS,
    accepted_codings,
    connection_options,
    is_event_stream,
    is_host,
    is_request_id,
    is_trace,
    means_this_machine,
    part,
    prefers,
    tokens,
    value_of,
    values_of,
    without,
)

HEAD = b"GET / HTTP/1.1\r\nA: 1\r\nHOST: x \r\nb:2\r\nTE:\ttrailers\r\nTea: yes\r\nExpect:\r\n\r\n"


def test_a_head_is_parted() -> None:
    start, lines, found = part(HEAD, REQUEST_STOPS)
    assert start == b"GET / HTTP/1.1"
    assert lines == b"\r\nA: 1\r\nb:2\r\nTea: yes"
    assert list(found) == [(b"HOST", b"x "), (b"TE", b"trailers"), (b"Expect", b"")]


def test_a_name_within_a_value_is_not_a_field() -> None:
    _, lines, found = part(b"GET / HTTP/1.1\r\nX: host: evil\r\nX-Host: y\r\n\r\n", REQUEST_STOPS)
    assert lines == b"\r\nX: host: evil\r\nX-Host: y"
    assert list(found) == []


def test_lines_are_taken_away_by_name() -> None:
    assert without(b"\r\nA: 1\r\nB: 2\r\na: 3\r\nAB: 4", [b"a"]) == b"\r\nB: 2\r\nAB: 4"


def test_values_of_one_name_are_one_list() -> None:
    assert value_of(b"\r\nAccept: a\r\nB: x\r\naccept:b", b"accept") == b"a, b"
    assert value_of(b"\r\nAccept: a", b"b") == b""


def test_values_of_some_names() -> None:
    lines = b"\r\nAccept: a\r\nB: x\r\naccept:b\r\nC: \r\nD: 4"
    assert values_of(lines, {b"accept", b"c", b"e"}) == {b"accept": b"a, b", b"c": b""}


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        (b"gzip, deflate, br, zstd", [b"br", b"gzip"]),
        (b"gzip", [b"gzip"]),
        (b"GZIP;q=0.5 , br;q=0.4", [b"gzip", b"br"]),
        (b"br;q=0, gzip;q=0.001", [b"gzip"]),
        (b"*", [b"br", b"gzip"]),
        (b"br;q=0, *", [b"gzip"]),
        (b"*;q=0", []),
        (b"identity", []),
        (b"identity;q=0.5, gzip;q=0.4, br;q=0.6", [b"br"]),
        (b"gzip;q=nonsense", []),
        (b"", []),
    ],
)
def test_content_codings(accept_encoding: bytes, accepted: list[bytes]) -> None:
    assert accepted_codings(accept_encoding, [b"br", b"gzip"]) == accepted


def test_tokens() -> None:
    assert tokens(b" Close , ,Keep-Alive,") == [b"close", b"keep-alive"]


@pytest.mark.parametrize(
    ("content", "nominated", "keep_alive"),
    [
        (b"close", set(), False),
        (b"Keep-Alive", set(), True),
        (b"keep-alive, close", set(), False),
        (b"Upgrade, HTTP2-Settings", {b"http2-settings"}, None),
        (b"", set(), None),
    ],
)
def test_connection_options(content: bytes, nominated: set[bytes], keep_alive: bool | None) -> None:
    options = connection_options(content)
    assert (options.nominated, options.keep_alive) == (nominated, keep_alive)


@pytest.mark.parametrize("good", [b"", b"a", b"a.b:80", b"[::1]:8080", b"127.0.0.1", b"a_b", b"a:"])
def test_hosts(good: bytes) -> None:
    assert is_host(good)


@pytest.mark.parametrize("bad", [b"a b", b"a/b", b"u@a", b"a:b", b"[::1", b"a,b c", b"a\xff", b"a:1:2"])
def test_what_is_no_host(bad: bytes) -> None:
    assert not is_host(bad)


def test_request_ids_cannot_forge_a_log_line() -> None:
    assert is_request_id(b"a.B_c-1")
    assert not any(map(is_request_id, (b"", b"a b", b"a\tb", b'a"b', b"x" * 129, "é".encode())))


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "wrong", [b"", TRACE + b"\t", TRACE.upper(), TRACE[:-1], b"01" + TRACE[2:], TRACE + b", " + TRACE, b"00-x-y-01"]
)
def test_traces_cannot_forge_a_log_line(wrong: bytes) -> None:
    assert is_trace(TRACE)
    assert not is_trace(wrong)


@pytest.mark.parametrize(
    ("lines", "is_one"),
    [
        (b"\r\nContent-Type: text/event-stream", True),
        (b"\r\nVary: *\r\ncontent-type:TEXT/Event-Stream; charset=utf-8", True),
        (b"\r\nContent-Type: text/event-streams", False),
        (b"\r\nX: text/event-stream", False),
        (b"", False),
    ],
)
def test_event_streams(lines: bytes, is_one: bool) -> None:
    assert is_event_stream(lines) is is_one


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (b"application/json", True),
        (b"text/html, application/json;q=0.9", False),
        (b"application/json, text/html;q=0.9", True),
        (b"application/*, text/html;q=0.5", True),
        (b"*/*", False),
        (b"", False),
        (b"application/json;q=x", False),
    ],
)
def test_preference(accept: bytes, json: bool) -> None:
    assert prefers(accept, b"application/json", b"text/html") is json


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        (b"", True),
        (b"localhost", True),
        (b"LocalHost:8080", True),
        (b"a.localhost", True),
        (b"127.0.0.1:8080", True),
        (b"[::1]", True),
        (b"dev.example", True),
        (b"evil.example", False),
        (b"localhost.evil.example", False),
        (b"127.0.0.1.evil.example", False),
        (b"evillocalhost", False),
        (b"xdev.example", False),
        (b"1.2.3", False),
    ],
)
def test_hosts_that_no_foreign_site_can_have_led_to(host: bytes, is_ours: bool) -> None:
    assert means_this_machine(host, b"dev.example") is is_ours
