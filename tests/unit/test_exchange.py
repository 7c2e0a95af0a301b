"""The spine of the proxy, by itself: what goes on, what stops here, what happens after a loss."""

from __future__ import annotations

from tqserver.proxy import admission, balancer
from tqserver.proxy.exchange import KEPT_BODY_BYTES, AfterLoss, Exchange
from tqserver.proxy.replies import reply
from tqserver.wire.messages import Failure

FORWARDED = b"x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: http\r\n"


def exchange(method: bytes = b"GET", version: str = "1.1", *fields: tuple[bytes, bytes]) -> Exchange:
    made = Exchange()
    made.target = b"/x?y=1"
    made.fields = [(b"host", b"example.org"), *fields]
    made.head_received(method, version, True, False, b"id-1")
    return made


def test_hop_by_hop_fields_and_those_that_connection_names_stop_here() -> None:
    made = exchange(
        b"GET", "1.1", (b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"te", b"trailers"), (b"accept", b"*/*")
    )
    head = made.upstream_head(FORWARDED, False)
    assert head == (
        b"GET /x?y=1 HTTP/1.1\r\nhost: example.org\r\naccept: */*\r\n"
        + FORWARDED
        + b"x-forwarded-host: example.org\r\nx-request-id: id-1\r\n\r\n"
    )


def test_forwarding_fields_of_a_stranger_are_replaced_and_of_a_trusted_peer_kept() -> None:
    made = exchange(b"GET", "1.1", (b"x-forwarded-for", b"1.2.3.4"))
    assert b"1.2.3.4" not in made.upstream_head(FORWARDED, False)
    kept = made.upstream_head(FORWARDED, True)
    assert b"x-forwarded-for: 1.2.3.4" in kept
    assert b"9.9.9.9" not in kept


def test_a_request_id_is_taken_over_if_it_cannot_forge_a_log_line() -> None:
    assert exchange(b"GET", "1.1", (b"x-request-id", b"abc-1")).request_id == b"abc-1"
    assert exchange(b"GET", "1.1", (b"x-request-id", b'a" level="error')).request_id == b"id-1"


def test_an_idempotent_request_is_sent_again_and_a_post_is_not() -> None:
    assert exchange().lost(written=True) is AfterLoss.RETRY
    assert exchange(b"POST").lost(written=True) is AfterLoss.REPLY
    assert exchange(b"POST").lost(written=False) is AfterLoss.RETRY


def test_a_body_too_large_to_keep_is_not_sent_again() -> None:
    made = exchange(b"PUT", "1.1", (b"content-length", b"100000"))
    made.sent_upstream = True
    made.body_received(b"x" * (KEPT_BODY_BYTES + 1))
    assert made.lost(written=True) is AfterLoss.REPLY


def test_a_response_that_has_begun_is_cut_never_ended() -> None:
    made = exchange()
    made.received = True
    made.response_head(200, b"OK", [(b"content-length", b"5")], leaving=False)
    assert made.lost(written=True) is AfterLoss.ABORT


def test_a_response_without_length_is_chunked_or_ends_with_the_connection() -> None:
    new, old = exchange(), exchange(b"GET", "1.0")
    new.received = old.received = True
    assert b"transfer-encoding: chunked" in new.response_head(200, b"OK", [], leaving=False)
    assert new.framed(b"abc") == b"3\r\nabc\r\n"
    assert b"connection: close" in old.response_head(200, b"OK", [], leaving=False)
    assert old.framed(b"abc") == b"abc"


def test_heads_that_are_refused() -> None:
    refuse = admission.refuse_head
    assert refuse("1.1", b"/", [], 0) is admission.BAD_HOST
    assert refuse("1.1", b"/", [(b"host", b"a"), (b"host", b"b")], 0) is admission.BAD_HOST
    assert refuse("1.0", b"/", [], 0) is None
    assert refuse("1.1", b"x", [(b"host", b"a")], 0) is admission.BAD_TARGET
    assert refuse("1.1", b"/", [(b"host", b"a"), (b"content-length", b"11")], 10) is admission.TOO_LARGE
    assert admission.path_of(b"http://h/a?b") == b"/a"


class Worker:
    def __init__(self, number: int, in_flight: int) -> None:
        self.number, self.in_flight = number, in_flight


def test_the_least_loaded_worker_is_chosen_and_ties_go_round() -> None:
    workers = [Worker(1, 2), Worker(2, 0), Worker(3, 0)]
    assert {balancer.choose(workers, (), turn).number for turn in range(3)} == {2, 3}  # type: ignore[union-attr]
    assert balancer.choose(workers, {2, 3}, 0) is workers[0]
    assert balancer.choose(workers, {1, 2, 3}, 0) is None


def test_a_failure_is_shown_in_dev_and_not_in_prod() -> None:
    failure = Failure("it broke", "mend it", "pages/x/main.py:3", "<trace>")
    made = exchange(b"GET", "1.1", (b"accept", b"text/html"))
    shown = reply(made, 503, "it broke", close=False, dev=True, failure=failure)
    assert b"pages/x/main.py:3" in shown
    assert b"&lt;trace&gt;" in shown
    hidden = reply(made, 503, "unavailable", close=False, dev=False, failure=failure)
    assert b"main.py" not in hidden
    assert b"retry-after: 1" in hidden
