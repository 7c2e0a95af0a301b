"""Lines of the access log: their form, and that no client can write more than its own values."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from tqserver.proxy.access_line import (
    MAX_LINE_BYTES,
    NOBODY,
    Served,
    as_json,
    as_text,
    malformed_as_json,
    malformed_as_text,
)
from tqserver.proxy.exchange import Exchange
from tqserver.wire.http1 import RequestHead, RequestReader, parse_request_head

MOMENT = b"24/Nov/2026:13:40:01 +0000"
SERVED = Served("api/users", 3, 17)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
COMBINED = re.compile(
    rb'(?P<host>\S+) - - \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<size>\d+) '
    rb'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<ms>\d+\.\d) (?P<id>\S+) '
    rb'"(?P<page>[^"]*)" (?P<revision>\d+) (?P<worker>\d+)\n'
)


def answered(raw: bytes, status: int = 200, sent: int = 5) -> Exchange:
    exchange = Exchange(parse_request_head(raw), b"ab12-1", b"")
    exchange.reply(status)
    exchange.sent_bytes = sent
    return exchange


def request(*fields: str, target: str = "/a?b=c") -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: example.org", *fields]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n"


def test_text() -> None:
    exchange = answered(request("User-Agent: curl/8 (x)", "Referer: http://a/"))
    assert as_text(MOMENT, b"127.0.0.1", exchange, SERVED, 0.0123) == (
        b'127.0.0.1 - - [24/Nov/2026:13:40:01 +0000] "GET /a?b=c HTTP/1.1" 200 5 "http://a/" "curl/8 (x)" '
        b'12.3 ab12-1 "api/users" 3 17\n'
    )


def test_text_of_what_nobody_answered() -> None:
    exchange = answered(request(), status=0, sent=0)
    assert as_text(MOMENT, b"::1", exchange, NOBODY, 0.0) == (
        b'::1 - - [24/Nov/2026:13:40:01 +0000] "GET /a?b=c HTTP/1.1" 499 0 "-" "-" 0.0 ab12-1 "-" 0 0\n'
    )


def test_json() -> None:
    exchange = answered(request("user-agent: x", f"traceparent: {TRACE}"))
    assert json.loads(as_json(b"2026-11-24T13:40:01+00:00", b"127.0.0.1", exchange, SERVED, 0.0123)) == {
        "time": "2026-11-24T13:40:01+00:00", "client": "127.0.0.1", "method": "GET", "host": "example.org",
        "target": "/a?b=c", "protocol": "HTTP/1.1", "status": 200, "bytes": 5, "duration_ms": 12.3,
        "request_id": "ab12-1", "page": "api/users", "revision": 3, "worker": 17, "whole": True, "user_agent": "x",
        "referer": "", "traceparent": TRACE,
    }  # fmt: skip


def test_what_is_found_once_is_true_of_each_head_of_a_connection() -> None:
    """Heads and fields that are said again share what was found in them, in either form and of any length."""
    reader = RequestReader()
    long = "x" * 3000
    for agent, target in (("a", "/1"), ("a", "/1"), ("a", "/2"), ("b", "/2"), (long, "/2"), (long, "/3")):
        head = reader.read(request(f"User-Agent: {agent}", target=target))
        assert head is not None
        exchange = Exchange(head, b"ab12-1", b"")
        for _ in range(2):
            line = COMBINED.fullmatch(as_text(MOMENT, b"::1", exchange, SERVED, 0.0))
            told = json.loads(as_json(MOMENT, b"::1", exchange, SERVED, 0.0))
            assert line is not None and line["request"].decode() == f"GET {target} HTTP/1.1"
            assert told["target"] == target
            for shown in (line["agent"].decode(), told["user_agent"]):
                assert shown == agent[: len(shown)] and len(shown) >= min(len(agent), 128)


def test_what_was_no_request() -> None:
    assert COMBINED.fullmatch(malformed_as_text(MOMENT, b"127.0.0.1", 400, b"ab12-1"))
    assert json.loads(malformed_as_json(b"now", b"::1", 400, b"ab12-1"))["status"] == 400


def test_quotes_are_escaped() -> None:
    exchange = answered(request('User-Agent: a" 200 1 "\\', 'Referer: "'))
    found = COMBINED.fullmatch(as_text(MOMENT, b"127.0.0.1", exchange, SERVED, 0.0))
    assert found is not None
    assert found["agent"] == rb"a\x22 200 1 \x22\x5c"
    assert found["referer"] == rb"\x22"


anything = st.binary(max_size=9000)


@given(target=anything, agent=anything, referer=anything, page=st.text(max_size=300))
def test_whatever_a_client_sends_is_one_line_that_can_be_taken_apart(
    target: bytes, agent: bytes, referer: bytes, page: str
) -> None:
    lines = b"".join(
        b"\r\n" + name + b": " + value.replace(b"\r", b"").replace(b"\n", b"")
        for name, value in ((b"User-Agent", agent), (b"Referer", referer))
    )
    exchange = Exchange(RequestHead(b"GET", target, 1, lines, 0), b"id", b"")
    served = Served(page, 1, 1)
    text = as_text(MOMENT, b"127.0.0.1", exchange, served, 0.0)
    assert COMBINED.fullmatch(text)
    assert len(text) <= MAX_LINE_BYTES
    as_object = as_json(b"now", b"127.0.0.1", exchange, served, 0.0)
    assert as_object.count(b"\n") == 1
    assert len(as_object) <= MAX_LINE_BYTES
    json.loads(as_object)
