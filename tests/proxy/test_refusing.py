"""What the proxy answers itself: malformed requests, limits, and the form of its answers (DESIGN 5.6)."""

from __future__ import annotations

import json

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page, post
from tqserver.wire.messages import Failure, RouteLimits, ServerLimits

BROKEN = Failure(
    message="SyntaxError: invalid syntax",
    remedy="mend <it>",
    where="pages/index/main.py:3:7",
    output="x < y & z",
)

MALFORMED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "length and coding": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "chunked is not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "line feed in the query": b"GET /?q\nX-Forwarded-For: HTTP/1.1\r\nHost: a\r\n\r\n",
    "carriage return in the query": b"GET /?q\rX: HTTP/1.1\r\nHost: a\r\n\r\n",
    "line feed before the version": b"GET /?q\nHTTP/1.1\r\nHost: a\r\n\r\n",
    "line feed alone": b"GET / HTTP/1.1\nHost: a\n\n",
    "carriage return alone": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "no host at all": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "user in host": b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "control in target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests(proxy: Proxy, raw: bytes) -> None:
    client = proxy.connect().send(raw + get("/smuggled"))
    response = client.response()
    assert response.status == 400
    assert response.head["Connection"] == b"close"
    assert client.rest() == b""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nExpect: 100-continue\r\n\r\n", 417),
        (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"x" * 20000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 15000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 90 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", 413),
    ],
)
def test_what_is_not_supported_or_too_large(proxy: Proxy, raw: bytes, status: int) -> None:
    assert proxy.connect().send(raw).response().status == status


@pytest.mark.parametrize("path", ["/a%2fb", "/%5c", "/%00", "/../up", "/%ff"])
def test_paths_that_could_be_read_in_two_ways(proxy: Proxy, worker: Worker, path: str) -> None:
    client = proxy.connect().send(get(path))
    assert client.response().status == 400
    client.send(get())  # the request itself was well-formed, so the connection stays
    worker.serve(ok())
    assert client.response().status == 200


def test_an_empty_line_before_a_request_is_ignored(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"\r\n", get())
    worker.serve(ok())
    assert client.response().status == 200


def test_no_page_answers(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, pattern="/api"))
    client = proxy.connect()
    for path, status in (("/apix", 404), ("/", 404), ("/other", 404)):
        assert client.send(get(path)).response().status == status
    assert client.send(get("*").replace(b"GET", b"OPTIONS")).response().status == 404
    client.send(get("/api/deep"))
    worker.serve(ok())
    assert client.response().status == 200


def test_a_body_over_the_limit_never_reaches_the_worker(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(max_body=10)))
    client = proxy.connect().send(post(b"x" * 11))
    response = client.response()
    assert (response.status, response.head["Connection"]) == (413, b"close")
    assert client.rest() == b""
    client = proxy.connect().send(post(b"x" * 10))
    worker.serve(ok())
    assert client.response().status == 200


def test_a_chunked_body_over_the_limit_is_refused_not_truncated(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker), limits=ServerLimits(max_body=10))
    client = proxy.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n")
    connection = worker.accept()
    connection.head()
    assert connection.until(b"12345678\r\n")
    client.send(b"3\r\nabc\r\n")
    assert client.response().status == 413
    assert client.rest() == b""
    assert connection.is_ended()


def test_a_malformed_chunk_ends_both(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    connection = worker.accept()
    connection.head()
    assert connection.until(b"a\r\n")
    client.send(b"xyz\r\n")
    assert client.response().status == 400
    assert client.rest() == b""
    assert connection.is_ended()


def test_the_client_can_read_the_refusal_of_a_body_it_still_sends(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(max_body=10)))
    client = proxy.connect().send(post(b"x" * 1_000_000))
    assert client.response().status == 413
    assert client.rest() == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n", 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000 + b"\r\n", 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n", 501),
    ],
)
def test_the_client_can_read_the_refusal_of_a_head_whose_body_it_still_sends(
    proxy: Proxy, worker: Worker, head: bytes, status: int
) -> None:
    """Were the connection closed at once, the kernel would reset it, and with it the answer (RFC 9112 9.6)."""
    proxy.route(page(worker), limits=ServerLimits(max_header_bytes=1024))
    client = proxy.connect().send(head + b"Content-Length: 1000000\r\n\r\n")
    assert client.response().status == status
    client.send(b"x" * 1_000_000)
    assert client.rest() == b""


def test_plain_text_by_default_and_nothing_of_a_failure_in_production(proxy: Proxy) -> None:
    proxy.route(page(failure=BROKEN))
    response = proxy.connect().send(get()).response()
    assert response.status == 503
    assert response.head["Content-Type"] == b"text/plain; charset=utf-8"
    assert response.head["Retry-After"] == b"1"
    assert response.head["X-Request-Id"] in response.body
    assert b"SyntaxError" not in response.body


def test_plain_text_says_an_error_once_also_if_a_traceback_ends_with_it(proxy: Proxy) -> None:
    failure = Failure("NameError: x", where="main.py:1", output="Traceback:\n  x\nNameError: x\n")
    proxy.route(page(failure=failure), mode="dev")
    text = proxy.connect().send(get("/")).response().body.decode()
    assert text.startswith("503 Service Unavailable: NameError: x\nmain.py:1\nTraceback:\n  x\nrequest id: ")


@pytest.mark.parametrize("path", ["/none", "/broken"])
def test_a_page_for_browsers_promises_to_load_again_only_if_it_does(proxy: Proxy, path: str) -> None:
    proxy.route(page(name="broken", pattern="/broken", failure=BROKEN), mode="dev")
    text = proxy.connect().send(get(path, "Accept: text/html")).response().body.decode()
    assert ("loads again by itself" in text) == ("<script>" in text) == (path == "/broken")


def test_json_when_asked_for(proxy: Proxy) -> None:
    proxy.route(page(failure=BROKEN), mode="dev")
    response = proxy.connect().send(get("/", "Accept: application/json", "X-Request-Id: me")).response()
    assert response.head["Content-Type"].startswith(b"application/json")
    assert json.loads(response.body) == {
        "status": 503,
        "error": BROKEN.message,
        "request_id": "me",
        "remedy": BROKEN.remedy,
        "where": BROKEN.where,
        "output": BROKEN.output,
    }


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json"])
def test_a_foreign_site_learns_nothing_of_a_failure_in_dev(proxy: Proxy, accept: str) -> None:
    """It may let its name resolve to this machine (DNS rebinding), and read what a browser here is answered."""
    proxy.route(page(failure=BROKEN), mode="dev")
    asked = get("/", f"Accept: {accept}").replace(b"example.org", b"evil.example:8080")
    response = proxy.connect().send(asked).response()
    assert response.status == 503
    assert b"SyntaxError" not in response.body
    assert b"main.py" not in response.body
    assert b"at localhost" in response.body
    assert b"<script" not in response.body


@pytest.mark.parametrize("host", [b"localhost:8080", b"a.localhost", b"127.0.0.1:1", b"[::1]:1", b"EXAMPLE.org"])
def test_who_asks_for_this_machine_learns_it(proxy: Proxy, host: bytes) -> None:
    proxy.route(page(failure=BROKEN), mode="dev")
    response = proxy.connect().send(get().replace(b"example.org", host)).response()
    assert b"SyntaxError" in response.body


def test_a_page_for_browsers_in_dev(proxy: Proxy) -> None:
    proxy.route(page(failure=BROKEN), mode="dev")
    response = proxy.connect().send(get("/", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")).response()
    assert response.head["Content-Type"].startswith(b"text/html")
    assert b"mend &lt;it&gt;" in response.body
    assert b"x &lt; y &amp; z" in response.body
    assert b"pages/index/main.py:3:7" in response.body


def test_a_page_for_browsers_in_production_shows_and_repeats_nothing(proxy: Proxy) -> None:
    proxy.route(page(failure=BROKEN))
    response = proxy.connect().send(get("/", "Accept: text/html")).response()
    assert response.head["Content-Type"].startswith(b"text/html")
    assert response.head["X-Request-Id"] in response.body
    assert b"SyntaxError" not in response.body
    assert b"<script" not in response.body


def test_a_head_request_is_refused_without_a_body(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, pattern="/api"))
    client = proxy.connect().send(get("/x").replace(b"GET", b"HEAD") + get("/y"))
    assert int(client.response(bodiless=True).head["Content-Length"]) > 0
    assert client.response().status == 404


def test_last_good_revision_serves_beside_a_failure(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, failure=BROKEN), mode="dev")
    client = proxy.connect().send(get())
    worker.serve(ok())
    assert client.response().status == 200
