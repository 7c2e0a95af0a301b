"""The life of a request, without a socket."""

from __future__ import annotations

import pytest

from tqserver.proxy.exchange import CUT, FINISH, KEPT_BODY_BYTES, RETRY, Exchange, Loss, Phase, Then, Verdict
from tqserver.wire.http1 import BadMessage, ResponseHead, parse_request_head, parse_response_head

REPLY_502 = Verdict(Then.REPLY, 502)


def exchange(start: str = "GET / HTTP/1.1", *fields: str) -> Exchange:
    raw = "".join(line + "\r\n" for line in (start, "Host: a", *fields)) + "\r\n"
    return Exchange(parse_request_head(raw.encode()), b"id", b"\r\nX-Forwarded-For: 1")


def answer(start: str = "HTTP/1.1 200 OK", *fields: str) -> ResponseHead:
    return parse_response_head(("".join(line + "\r\n" for line in (start, *fields)) + "\r\n").encode())


def test_from_head_to_end() -> None:
    life = exchange("GET /x HTTP/1.1", "Accept: y")
    assert life.phase is Phase.ADMITTED
    assert life.send() == (
        b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: y\r\nVia: 1.1 tqserver\r\n"
        b"X-Forwarded-For: 1\r\nX-Request-Id: id\r\n\r\n"
    )
    assert life.phase is Phase.SENT
    assert life.response_head(answer("HTTP/1.1 200 OK", "A: b", "Content-Length: 2"), b"now") == (
        b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\nVia: 1.1 tqserver\r\nDate: now\r\nX-Request-Id: id\r\n\r\n"
    )
    assert life.phase is Phase.ANSWERING
    assert life.response_body(life.answer_body.feed(b"ok")) == b"ok"
    assert life.answer_body.done
    assert life.response_end() == b""
    assert (life.phase, life.keep_alive) == (Phase.DONE, True)


def test_a_chunked_body_is_framed_anew() -> None:
    life = exchange("POST / HTTP/1.1", "Transfer-Encoding: chunked")
    assert b"Transfer-Encoding: chunked\r\n" in life.send()
    assert life.request_body(b"hello") == b"5\r\nhello\r\n"
    assert not life.request_done
    assert life.request_end() == b"0\r\n\r\n"
    assert life.request_done


@pytest.mark.parametrize(
    ("loss", "heard", "method", "verdict"),
    [
        (Loss.STALE, False, "GET", RETRY),
        (Loss.BROKEN, False, "GET", RETRY),
        (Loss.GARBLED, False, "GET", REPLY_502),
        (Loss.BROKEN, True, "GET", REPLY_502),
        (Loss.BROKEN, False, "DELETE", RETRY),
        (Loss.STALE, False, "POST", REPLY_502),
        (Loss.BROKEN, False, "PATCH", REPLY_502),
    ],
)
def test_a_worker_lost_before_it_answered(loss: Loss, heard: bool, method: str, verdict: Verdict) -> None:
    life = exchange(f"{method} / HTTP/1.1")
    life.send()
    assert life.upstream_lost(loss, 1, heard=heard, clean=True) == verdict
    assert life.needs_fresh_connection is (verdict is RETRY)


def test_nothing_was_sent_so_anything_can_be_tried_again() -> None:
    life = exchange("POST / HTTP/1.1", "Content-Length: 5")
    for _ in range(10):
        assert life.upstream_lost(Loss.REFUSED, 1, heard=False, clean=True) == RETRY
    assert life.phase is Phase.ADMITTED


def test_three_losses_are_forgiven() -> None:
    life = exchange()
    for loss, verdict in ((Loss.STALE, RETRY), (Loss.BROKEN, RETRY), (Loss.BROKEN, RETRY), (Loss.BROKEN, REPLY_502)):
        life.send()
        assert life.upstream_lost(loss, 1, heard=False, clean=True) == verdict


def test_a_worker_that_broke_is_avoided_for_a_while() -> None:
    life = exchange()
    life.send()
    life.upstream_lost(Loss.STALE, 1, heard=False, clean=True)
    assert not life.forgive()  # it has closed an idle connection, as it may
    life.send()
    life.upstream_lost(Loss.BROKEN, 2, heard=False, clean=True)
    assert life.avoided == (2,)
    assert life.forgive() and life.avoided == ()


def test_what_is_appended_is_part_of_the_answer() -> None:
    life = exchange()
    life.send()
    assert b"\r\nContent-Length: 7\r\n" in life.response_head(
        answer("HTTP/1.1 200 OK", "Content-Length: 5"), b"", b"!!"
    )
    assert life.response_end() == b"!!"
    life = exchange()
    life.send()
    assert b"chunked" in life.response_head(answer("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), b"", b"!!")
    assert life.response_end() == b"2\r\n!!\r\n0\r\n\r\n"


def test_what_was_sent_of_a_small_body_is_sent_again() -> None:
    life = exchange("PUT / HTTP/1.1", "Transfer-Encoding: chunked")
    life.send()
    life.request_body(b"ab")
    assert life.upstream_lost(Loss.BROKEN, 1, heard=False, clean=True) == RETRY
    assert life.send().endswith(b"\r\n\r\n2\r\nab\r\n")
    life.request_end()
    assert life.upstream_lost(Loss.STALE, 1, heard=False, clean=True) == RETRY
    assert life.send().endswith(b"\r\n\r\n2\r\nab\r\n0\r\n\r\n")


def test_a_large_body_is_not_kept() -> None:
    life = exchange("PUT / HTTP/1.1", "Content-Length: 100000")
    life.send()
    life.request_body(b"x" * (KEPT_BODY_BYTES + 1))
    assert life.upstream_lost(Loss.BROKEN, 1, heard=False, clean=True) == REPLY_502


@pytest.mark.parametrize(
    ("fields", "clean", "verdict"),
    [
        (["Content-Length: 5"], True, CUT),
        (["Transfer-Encoding: chunked"], True, CUT),
        ([], True, FINISH),
        ([], False, CUT),
    ],
)
def test_a_worker_lost_within_its_answer(fields: list[str], clean: bool, verdict: Verdict) -> None:
    life = exchange()
    life.send()
    life.response_head(answer("HTTP/1.1 200 OK", *fields), b"")
    assert life.upstream_lost(Loss.BROKEN, 1, heard=True, clean=clean) == verdict


@pytest.mark.parametrize(
    ("start", "fields", "kept"),
    [
        ("GET / HTTP/1.1", [], True),
        ("GET / HTTP/1.1", ["Connection: close"], False),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["Connection: keep-alive"], True),
        ("POST / HTTP/1.1", ["Content-Length: 1"], False),  # answered before the body came
    ],
)
def test_whether_the_clients_connection_survives(start: str, fields: list[str], kept: bool) -> None:
    life = exchange(start, *fields)
    life.send()
    head = life.response_head(answer("HTTP/1.1 200 OK", "Content-Length: 0"), b"")
    assert life.keep_alive is kept
    assert (b"Connection: close" in head) is not kept


def test_a_body_without_an_end_costs_an_http_1_0_client_its_connection() -> None:
    life = exchange("GET / HTTP/1.0", "Connection: keep-alive")
    life.send()
    head = life.response_head(answer("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), b"")
    assert b"Transfer-Encoding" not in head
    assert life.ends_with_connection and not life.keep_alive
    assert life.response_body(b"x") == b"x"


@pytest.mark.parametrize(
    ("phase", "awaited", "verdict"),
    [
        (Phase.ADMITTED, False, Verdict(Then.REPLY, 503)),
        (Phase.SENT, True, Verdict(Then.REPLY, 408)),
        (Phase.SENT, False, Verdict(Then.REPLY, 504)),
        (Phase.ANSWERING, False, CUT),
    ],
)
def test_silence(phase: Phase, awaited: bool, verdict: Verdict) -> None:
    life = exchange()
    life.phase = phase
    assert life.fell_silent(client_awaited=awaited) == verdict


def test_an_upgrade_needs_to_be_asked_for() -> None:
    switching = answer("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: x")
    with pytest.raises(BadMessage):
        exchange().switch(switching)
    life = exchange("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: x")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: x\r\n" in life.send()
    assert b"\r\nUpgrade: x\r\n" in life.switch(switching)
    assert life.phase is Phase.TUNNEL
    assert life.upstream_lost(Loss.BROKEN, 1, heard=True, clean=True) == FINISH
