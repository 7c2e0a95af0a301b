"""What reaches the worker and the client of a message: heads, bodies, framing."""

from __future__ import annotations

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page, post
from tqserver.wire.messages import Demand


def test_a_request_and_its_answer(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get("/a/b?c=d", "Accept: text/html", "Cookie: x=1", "cookie: y=2"))
    _, request = worker.serve(ok(b"hello", "Content-Type: text/plain", "Set-Cookie: a", "Set-Cookie: b"))
    assert request.line == b"GET /a/b?c=d HTTP/1.1"
    assert request.fields[:4] == [
        (b"Host", b"example.org"), (b"Accept", b"text/html"), (b"Cookie", b"x=1"), (b"cookie", b"y=2"),
    ]  # fmt: skip
    response = client.response()
    assert response.head.line == b"HTTP/1.1 200 OK"
    assert response.head["Content-Type"] == b"text/plain"
    assert response.head.all("Set-Cookie") == [b"a", b"b"]
    assert b"GMT" in response.head["Date"]
    assert "Connection" not in response.head
    assert response.body == b"hello"


def test_both_connections_are_kept_alive(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect()
    client.send(get("/1"))
    connection, _ = worker.serve(ok(b"1"))
    assert client.response().body == b"1"
    client.send(get("/2"))
    assert connection.head().line == b"GET /2 HTTP/1.1"
    connection.send(ok(b"2"))
    assert client.response().body == b"2"


def test_hop_by_hop_fields_stop(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(
        get("/", "Connection: keep-alive, X-Secret", "Keep-Alive: timeout=5", "X-Secret: 1", "x-secret: 2",
            "Proxy-Connection: keep-alive", "TE: trailers", "Trailer: Expires", "X-Kept: yes")
    )  # fmt: skip
    answer = ok(b"", "Connection: x-internal", "X-Internal: 1", "Keep-Alive: timeout=5", "X-Kept: too")
    _, request = worker.serve(answer)
    names = {name.lower() for name, _ in request.fields}
    assert names == {
        b"host", b"x-kept", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id",
        b"via",
    }  # fmt: skip
    head = client.response().head
    assert head["X-Kept"] == b"too"
    assert "X-Internal" not in head
    assert "Keep-Alive" not in head


def test_a_trace_goes_on_unchanged(proxy: Proxy, worker: Worker) -> None:
    """Of any version, well formed or not: what it means is for those to say who take part in it."""
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for value in (trace, b"cc-later", b"oh no"):
        client = proxy.connect().send(
            get("/", f"traceparent: {value.decode()}", "TraceState: a=1, b=2", "tracestate: c=3")
        )
        _, request = worker.serve(ok(b"", "traceresponse: 00-x"))
        assert request["traceparent"] == value
        assert request.all("tracestate") == [b"a=1, b=2", b"c=3"]
        assert client.response().head["traceresponse"] == b"00-x"


def test_what_a_client_says_of_itself_is_replaced(proxy: Proxy, worker: Worker) -> None:
    proxy.connect().send(
        get("/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil",
            "X-Forwarded-Port: 1", "Forwarded: for=6.6.6.6")
    )  # fmt: skip
    _, request = worker.serve(ok())
    assert request["X-Forwarded-For"] == b"127.0.0.1"
    assert request["X-Forwarded-Proto"] == b"http"
    assert request["X-Forwarded-Host"] == b"example.org"
    assert "X-Forwarded-Port" not in request
    assert "Forwarded" not in request


def test_a_trusted_proxy_speaks_for_its_client(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker), trusted_proxies=["10.0.0.0/8", "127.0.0.0/8"])
    proxy.connect().send(get("/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"))
    _, request = worker.serve(ok())
    assert request["X-Forwarded-For"] == b"1.2.3.4, 127.0.0.1"
    assert request["X-Forwarded-Proto"] == b"https"
    assert request["X-Forwarded-Host"] == b"example.org"
    assert request["X-Forwarded-Port"] == b"443"


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
def test_what_an_application_would_take_for_such_a_field_stops(
    proxy: Proxy, worker: Worker, trusted: list[str]
) -> None:
    """CGI, WSGI, PHP and Rack have one name for both spellings; of the proxy's own no other is passed on."""
    proxy.route(page(worker), trusted_proxies=trusted)
    names = ["X_Forwarded_For", "X-Forwarded_For", "x_request_id", "X-Forwarded-A_B", "FORWARDED_", "Content_Length"]
    proxy.connect().send(get("/?a_b=1", *(f"{name}: 6.6.6.6" for name in names), "X-Kept: a_b: c_d"))
    _, request = worker.serve(ok())
    assert b"6.6.6.6" not in request.raw
    assert request.line == b"GET /?a_b=1 HTTP/1.1"
    assert request["X-Kept"] == b"a_b: c_d"


def test_no_spelling_of_a_name_is_left_out(proxy: Proxy, worker: Worker) -> None:
    proxy.connect().send(get("/", "X-Forwarded-~: 6.6.6.6", "X-Forwarded-: 6.6.6.6"))
    assert b"6.6.6.6" not in worker.serve(ok())[1].raw


def test_request_ids_are_made_unique_and_taken_over(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, request = worker.serve(ok(b"", "X-Request-Id: the-workers"))
    made = request["X-Request-Id"]
    assert client.response().head["X-Request-Id"] == made
    for sent, taken in ((b"a.b_c-D9", True), (b"x" * 128, True), (b"x" * 129, False), (b"a b", False)):
        client.send(get("/", f"X-Request-Id: {sent.decode()}"))
        seen = connection.head()["X-Request-Id"]
        connection.send(ok())
        assert (seen == sent) is taken
        assert seen != made
        assert client.response().head["X-Request-Id"] == seen


def test_a_request_body_of_known_length(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(post(b"first"))
    connection = worker.accept()
    head = connection.head()
    assert head["Content-Length"] == b"5"
    assert connection.exactly(5) == b"first"
    connection.send(ok(b"got it"))
    assert client.response().body == b"got it"
    client.send(post(b""))
    assert connection.head()["Content-Length"] == b"0"


def test_a_chunked_request_streams(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\nWiki\r\n"
    )
    connection = worker.accept()
    head = connection.head()
    assert head["Transfer-Encoding"] == b"chunked"
    assert "Content-Length" not in head
    assert connection.until(b"Wiki\r\n") == b"4\r\nWiki\r\n"  # at once, though the request goes on
    client.send(b"5\r\npedia\r\n0\r\nExpires: never\r\n\r\n")
    assert connection.chunks() == b"pedia"
    connection.send(ok())
    assert client.response().status == 200
    client.send(get("/next"))
    assert connection.head().line == b"GET /next HTTP/1.1"


def test_a_chunked_response_streams(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    head = client.head()
    assert head["Transfer-Encoding"] == b"chunked"
    assert client.until(b"ab\r\n") == b"2\r\nab\r\n"
    connection.send(b"1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert client.chunks() == b"c"
    client.send(get("/next"))
    assert connection.head().line == b"GET /next HTTP/1.1"


def test_a_response_that_ends_with_its_connection(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.0 200 OK\r\n\r\nsome")
    assert client.head()["Transfer-Encoding"] == b"chunked"
    assert client.until(b"some\r\n") == b"4\r\nsome\r\n"
    connection.send(b"more").close()
    assert client.chunks() == b"more"
    client.send(get("/next"))
    worker.serve(ok(b"next"))
    assert client.response().body == b"next"


def test_http_1_0_clients_get_no_chunks(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    _, request = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    assert request.line == b"GET / HTTP/1.1"
    assert request["Host"] == b""
    response = client.response()
    assert response.head.line == b"HTTP/1.1 200 OK"
    assert response.head["Connection"] == b"close"
    assert "Transfer-Encoding" not in response.head
    assert response.body == b"ab"


def test_http_1_0_keep_alive(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    connection, _ = worker.serve(ok())
    assert client.response().head["Connection"] == b"keep-alive"
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    connection.head()
    connection.send(ok(b"last"))
    response = client.response()
    assert response.head["Connection"] == b"close"
    assert client.rest() == b""


def test_connection_close_is_obeyed_on_either_side(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get("/", "Connection: close"))
    connection, _ = worker.serve(ok())
    assert client.response().head["Connection"] == b"close"
    assert client.rest() == b""
    client = proxy.connect().send(get())
    connection.head()
    connection.send(ok(b"last", "Connection: close"))
    assert "Connection" not in client.response().head
    assert connection.is_ended()
    client.send(get())
    worker.serve(ok(b"another connection"))
    assert client.response().body == b"another connection"


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    ],
)
def test_answers_without_a_body(proxy: Proxy, worker: Worker, method: str, answer: bytes, length: bytes | None) -> None:
    client = proxy.connect().send(get().replace(b"GET", method.encode()))
    connection, _ = worker.serve(answer)
    head = client.response(bodiless=True).head
    assert head.all("Content-Length") == ([length] if length else [])
    assert "Transfer-Encoding" not in head
    client.send(get("/next"))
    assert connection.head().line == b"GET /next HTTP/1.1"
    connection.send(ok(b"next"))
    assert client.response().body == b"next"


def test_a_body_where_none_may_be_does_not_reach_the_next_client(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get().replace(b"GET", b"HEAD"))
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    client.response(bodiless=True)
    assert connection.is_ended()
    client.send(get())
    worker.serve(ok(b"good"))
    assert client.response().body == b"good"


def test_what_is_said_again_means_what_it_meant(proxy: Proxy, worker: Worker) -> None:
    """Heads that are repeated are judged once: by each side, and whatever else was said in between."""
    head, chunked = get("/a").replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    unmodified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
    exchanges = (
        (get("/a"), ok(b"hello"), b"hello"),
        (get("/a"), ok(b"olleh"), b"olleh"),
        (head, ok(b"hello")[:-5], b""),
        (get("/a"), ok(b"four"), b"four"),
        (get("/a"), chunked + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
        (head, chunked, b""),
        (get("/a"), unmodified, b""),
        (get("/a"), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"hello"), b"hello"),
        (post(b"body"), ok(b"done"), b"done"),
    )
    client = proxy.connect()
    for request, answer, body in [each for each in exchanges for _ in range(2)] + [*exchanges]:
        client.send(request)
        connection = worker.asked()
        asked = connection.head()
        assert asked.line == request.partition(b"\r\n")[0]
        assert connection.exactly(4 if asked.line.startswith(b"POST") else 0) == request.partition(b"\r\n\r\n")[2]
        connection.send(answer)
        if b" 103 " in answer:
            assert client.head()["Link"] == b"x"
        response = client.response(bodiless=not body)
        assert (response.head.line, response.body) == (answer[answer.rindex(b"HTTP") :].partition(b"\r\n")[0], body)


def test_a_request_that_is_said_again_has_its_own_id_and_wait(proxy: Proxy, worker: Worker) -> None:
    request = post(b"body", "Expect: 100-continue")
    client, ids = proxy.connect(), set()
    for _ in range(3):
        client.send(request[:-4])
        connection = worker.asked()
        ids.add(connection.head()["X-Request-Id"])
        assert client.head().line == b"HTTP/1.1 100 Continue"
        client.send(b"body")
        assert connection.exactly(4) == b"body"
        connection.send(ok())
        assert client.response().body == b"hello"
    assert len(ids) == 3


def test_pipelined_requests_are_answered_in_order_one_at_a_time(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get("/1") + post(b"22") + get("/3") + get("/4")[:-2])
    connection, request = worker.serve(ok(b"1"))
    assert request.line == b"GET /1 HTTP/1.1"
    assert connection.head().line == b"POST / HTTP/1.1"
    assert connection.exactly(2) == b"22"
    connection.send(ok(b"2"))
    assert connection.head().line == b"GET /3 HTTP/1.1"
    connection.send(ok(b"3"))
    assert [client.response().body for _ in range(3)] == [b"1", b"2", b"3"]
    client.send(b"\r\n")
    assert connection.head().line == b"GET /4 HTTP/1.1"


def test_a_flood_of_pipelined_requests_does_not_recurse(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, pattern="/only"))
    client = proxy.connect()
    client.send(get("/missing") * 5000)
    assert {client.response().status for _ in range(5000)} == {404}


def test_expect_100_continue_is_answered_when_a_worker_is_chosen(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page())
    head, body = post(b"body", "Expect: 100-continue").split(b"\r\n\r\n")
    client = proxy.connect().send(head + b"\r\n\r\n")
    proxy.route(page(worker))
    connection = worker.accept()
    assert "Expect" not in connection.head()
    assert client.head().line == b"HTTP/1.1 100 Continue"
    client.send(body)
    assert connection.exactly(4) == b"body"
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"done"))
    assert client.response().body == b"done"


def test_early_hints_are_passed_on(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    worker.serve(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ok())
    hints = client.head()
    assert hints.line == b"HTTP/1.1 103 Early Hints"
    assert hints["Link"] == b"</a.css>"
    assert client.response().body == b"hello"
    client = proxy.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    worker.serve(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"", "Connection: close"))
    assert client.head().line == b"HTTP/1.1 200 OK"


def test_an_answer_before_the_request_is_whole(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(post(b"x" * 100)[:-50])
    connection, _ = worker.serve(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    response = client.response()
    assert (response.status, response.body) == (403, b"no")
    assert response.head["Connection"] == b"close"
    assert client.rest() == b""
    assert connection.exactly(50) and connection.is_ended()


def test_both_directions_at_once(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    for word in (b"ab", b"cd"):
        client.send(b"2\r\n" + word + b"\r\n")
        assert connection.until(word + b"\r\n") == b"2\r\n" + word + b"\r\n"
        connection.send(b"2\r\n" + word + b"\r\n")
        assert client.until(word + b"\r\n") == b"2\r\n" + word + b"\r\n"
    client.send(b"0\r\n\r\n")
    assert connection.chunks() == b""
    connection.send(b"0\r\n\r\n")
    assert client.chunks() == b""


def test_an_absolute_target_names_the_host(proxy: Proxy, worker: Worker) -> None:
    proxy.connect().send(b"GET http://real.example/path?q HTTP/1.1\r\nHost: other\r\n\r\n")
    _, request = worker.serve(ok())
    assert request.line == b"GET /path?q HTTP/1.1"
    assert request["Host"] == b"real.example"


def test_the_target_goes_on_as_it_came(proxy: Proxy, worker: Worker) -> None:
    target = "/a//b/./c%20d/..;x?q=%ff"
    proxy.connect().send(get(target))
    assert worker.serve(ok())[1].line == f"GET {target} HTTP/1.1".encode()


# --- clients that send nothing more, and read on ----------------------------------------------------------


def test_a_half_closed_client_is_answered(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get()).half_close()
    connection = worker.accept()
    connection.head()
    connection.send(ok(b"still there"))
    response = client.response()
    assert (response.body, response.head["Connection"]) == (b"still there", b"close")
    assert client.rest() == b""


def test_a_half_closed_client_gets_all_that_it_asked(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page())
    client = proxy.connect().send(post(b"one") + get("/2") + get("/3")[:-2]).half_close()
    proxy.hear(Demand)
    proxy.route(page(worker))
    connection, _ = worker.serve(ok(b"1"))
    assert connection.exactly(3) == b"one"
    assert connection.head().line == b"GET /2 HTTP/1.1"
    connection.send(ok(b"2"))
    assert [client.response().body for _ in range(2)] == [b"1", b"2"]
    assert client.rest() == b""  # the third is not whole and will not be


def test_a_half_closed_client_whose_body_is_short_is_gone(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page())
    client = proxy.connect().send(post(b"whole")[:-2]).half_close()
    proxy.hear(Demand)
    proxy.route(page(worker))
    connection = worker.accept()
    connection.head()
    assert connection.exactly(3) == b"who"
    assert connection.is_ended()
    assert client.is_ended()


# --- Via --------------------------------------------------------------------------------------------------


def test_via_names_each_hop_and_its_protocol(proxy: Proxy, worker: Worker) -> None:
    """RFC 9110 7.6.3."""
    client = proxy.connect().send(get("/", "Via: 1.1 front"))
    _, request = worker.serve(ok(b"", "Via: 1.1 inner"))
    assert request.all("Via") == [b"1.1 front", b"1.1 tqserver"]
    assert client.response().head.all("Via") == [b"1.1 inner", b"1.1 tqserver"]
    client = proxy.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    _, request = worker.serve(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert request["Via"] == b"1.0 tqserver"
    assert client.response().head["Via"] == b"1.0 tqserver"
