"""The error of a broken save in the browser, over what still serves: who gets it, and that nobody else does."""

from __future__ import annotations

import re

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page
from tqserver.proxy import overlay
from tqserver.wire.http1 import parse_request_head, parse_response_head
from tqserver.wire.messages import Failure

BROKEN = Failure(
    message="SyntaxError: <invalid> 'syntax' ä",
    remedy="mend & save",
    where="pages/index/main.py:3:7",
    output="x </template><script>alert(1)</script>",
)
WINDOW = "Sec-Fetch-Dest: document"
HTML = "Content-Type: text/html; charset=utf-8"


def stale(proxy: Proxy, worker: Worker, mode: str = "dev") -> None:
    """The page's last good revision serves beside a failure."""
    proxy.route(page(worker, failure=BROKEN), mode=mode)


# --- the decision -----------------------------------------------------------------------------------------


def appended(start: str, request_field: str, status: str, *fields: str) -> bytes:
    request = parse_request_head(f"{start}\r\nHost: a\r\n{request_field}\r\n\r\n".encode())
    answer = "".join(line + "\r\n" for line in (f"HTTP/1.1 {status}", *fields)) + "\r\n"
    return overlay.append_to(request, parse_response_head(answer.encode()), BROKEN)[1]


@pytest.mark.parametrize("destination", ["document", "iframe"])
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.parametrize("media", ["text/html", "Text/HTML;charset=latin1"])
def test_documents_that_a_browser_opens(destination: str, status: str, media: str) -> None:
    assert appended("GET / HTTP/1.1", f"sec-fetch-dest: {destination}", status, f"content-type: {media}")


@pytest.mark.parametrize(
    ("start", "request_field", "status", "fields"),
    [
        ("GET / HTTP/1.1", "Accept: text/html", "200 OK", [HTML]),  # curl
        ("GET / HTTP/1.1", "Sec-Fetch-Dest: empty", "200 OK", [HTML]),  # fetch()
        ("GET / HTTP/1.1", "Sec-Fetch-Dest: script", "200 OK", [HTML]),
        ("POST / HTTP/1.1", WINDOW, "200 OK", [HTML]),
        ("HEAD / HTTP/1.1", WINDOW, "200 OK", [HTML]),
        ("GET / HTTP/1.1", WINDOW, "204 No Content", [HTML]),
        ("GET / HTTP/1.1", WINDOW, "206 Partial Content", [HTML]),
        ("GET / HTTP/1.1", WINDOW, "304 Not Modified", [HTML]),
        ("GET / HTTP/1.1", WINDOW, "200 OK", []),
        ("GET / HTTP/1.1", WINDOW, "200 OK", ["Content-Type: application/json"]),
        ("GET / HTTP/1.1", WINDOW, "200 OK", ["Content-Type: text/html-sandboxed"]),
        ("GET / HTTP/1.1", WINDOW, "200 OK", ["Content-Type: text/html; charset=UTF-16LE"]),
        ("GET / HTTP/1.1", WINDOW, "200 OK", [HTML, "Content-Encoding: gzip"]),
    ],
)
def test_all_else_is_left_alone(start: str, request_field: str, status: str, fields: list[str]) -> None:
    assert appended(start, request_field, status, *fields) == b""


def test_the_block_shows_all_of_a_failure_and_nothing_of_it_is_markup() -> None:
    block = overlay.block(BROKEN).decode("ascii")
    assert "SyntaxError: &lt;invalid&gt; &#x27;syntax&#x27; &#228;" in block
    assert "mend &amp; save" in block
    assert "pages/index/main.py:3:7" in block
    assert "&lt;/template&gt;&lt;script&gt;" in block
    assert block.count("<script") == block.count("</script") == 1  # ours
    assert not any(word in block for word in ("http:", "https:", "url(", "src="))
    assert "<pre>" not in overlay.block(Failure("only a message")).decode()


# --- over the wire ----------------------------------------------------------------------------------------


def test_behind_a_body_of_known_length(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect().send(get("/", WINDOW))
    marks = ["ETag: x", "Last-Modified: y", "Accept-Ranges: bytes", "Content-MD5: z", "Digest: w", "X-Kept: yes"]
    worker.serve(ok(b"<p>old</p>", HTML, "Cache-Control: max-age=60", *marks))
    response = client.response()
    assert response.body == b"<p>old</p>" + overlay.block(BROKEN)
    assert response.head["Cache-Control"] == b"no-store"
    assert response.head["X-Kept"] == b"yes"
    assert not any(name.partition(":")[0] in response.head for name in marks[:-1])
    client.send(get("/", "Sec-Fetch-Dest: image"))
    worker.serve(ok(b"<p>old</p>", HTML, "ETag: x"))
    response = client.response()
    assert (response.body, response.head["ETag"]) == (b"<p>old</p>", b"x")


def test_an_answer_that_begins_as_one_with_the_block_did_has_its_own_head(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect()
    for destination in ("document", "image", "document"):
        client.send(get("/", f"Sec-Fetch-Dest: {destination}"))
        worker.serve(ok(b"<p>old</p>", HTML, "ETag: x"))
        response = client.response()
        assert ("ETag" in response.head) == (destination == "image")
        assert (response.body == b"<p>old</p>") == (destination == "image")


def test_as_one_more_chunk_and_nothing_is_held_back(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect().send(get("/", WINDOW))
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.head()
    connection.send(b"3\r\nold\r\n")
    assert client.until(b"old\r\n") == b"3\r\nold\r\n"
    connection.send(b"0\r\n\r\n")
    assert client.chunks() == overlay.block(BROKEN)


def test_behind_a_body_that_ends_with_its_connection(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect().send(b"GET / HTTP/1.0\r\nSec-Fetch-Dest: document\r\n\r\n")
    connection, _ = worker.serve(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\nold")
    connection.close()
    assert client.response().body == b"old" + overlay.block(BROKEN)


def test_never_behind_what_was_cut_short(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect().send(get("/", WINDOW))
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nhalf")
    connection.close()
    client.head()
    assert client.rest() == b"half"


@pytest.mark.parametrize(("mode", "failure"), [("prod", BROKEN), ("dev", None)], ids=["prod", "nothing is broken"])
def test_byte_for_byte_otherwise(proxy: Proxy, worker: Worker, mode: str, failure: Failure | None) -> None:
    proxy.route(page(worker, failure=failure), mode=mode)
    client = proxy.connect().send(get("/", WINDOW))
    worker.serve(ok(b"<p>old</p>", HTML, "ETag: x", "Cache-Control: max-age=60"))
    response = client.response()
    assert (response.body, response.head["ETag"]) == (b"<p>old</p>", b"x")
    assert response.head.all("Cache-Control") == [b"max-age=60"]


def test_a_foreign_site_does_not_get_it(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect().send(get("/", WINDOW).replace(b"example.org", b"evil.example"))
    worker.serve(ok(b"<p>", HTML))
    assert client.response().body == b"<p>"


# --- whether it is still true -----------------------------------------------------------------------------


def question() -> bytes:
    """What the block asks."""
    found = re.search(r"'(\"tqserver-error-[0-9a-f]+\")'", overlay.block(BROKEN).decode())
    assert found is not None
    return get("/", f"If-None-Match: {found[1]}")


def test_the_block_is_told_that_it_is_still_true_and_no_worker_is_asked(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker)
    client = proxy.connect()
    for _ in range(2):  # on one connection: nothing follows the head
        client.send(question())
        assert client.head().line == b"HTTP/1.1 304 Not Modified"


@pytest.mark.parametrize("failure", [None, Failure("another one")])
def test_the_page_answers_once_it_is_not(proxy: Proxy, worker: Worker, failure: Failure | None) -> None:
    proxy.route(page(worker, failure=failure))
    client = proxy.connect().send(question())
    worker.serve(ok(b"new", HTML))
    assert client.response().body == b"new"


def test_in_production_and_for_foreign_sites_nobody_is_told(proxy: Proxy, worker: Worker) -> None:
    stale(proxy, worker, mode="prod")
    client = proxy.connect().send(question())
    worker.serve(ok(b"old", HTML))
    assert client.response().body == b"old"
    stale(proxy, worker)
    client = proxy.connect().send(question().replace(b"Host: ", b"Host: evil.example.org\r\nX: "))
    worker.serve(ok(b"old", HTML))
    assert client.response().body == b"old"
