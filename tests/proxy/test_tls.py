"""TLS: what is spoken over it, how connections end, what is refused, where plain HTTP is sent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import Pair
from tests.proxy.rig import Proxy, Wire, Worker, get, ok, page, post
from tqserver.wire.messages import Cut, Leave, RouteLimits, ServerLimits

HSTS = "max-age=300; includeSubDomains"


# An end that is reset, or that no close_notify announced; before Python 3.11.4 the latter is no SSLEOFError yet.
UNSAID = (ConnectionResetError, ssl.SSLError)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.make(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def shared_secure_proxy(pair: Pair) -> Iterator[Proxy]:
    proxy = Proxy(pair)
    yield proxy
    assert proxy.process.poll() is None, "the proxy ended during the tests"
    proxy.stop()


@pytest.fixture
def secure(shared_secure_proxy: Proxy, worker: Worker) -> Iterator[Proxy]:
    """A proxy that speaks TLS, with one page, at /, that has one worker."""
    shared_secure_proxy.route(page(worker), hsts=HSTS)
    yield shared_secure_proxy
    shared_secure_proxy.hang_up()


def tls(client: Wire) -> ssl.SSLSocket:
    assert isinstance(client.sock, ssl.SSLSocket)
    return client.sock


# --- what is spoken ---------------------------------------------------------------------------------------


def test_requests_over_one_connection(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely()
    for body in (b"first", b"second"):
        client.send(get())
        _, head = worker.serve(ok(body))
        assert head["X-Forwarded-Proto"] == b"https"
        response = client.response()
        assert response.body == body
        assert response.head["Strict-Transport-Security"] == HSTS.encode()


def test_large_bodies_both_ways(secure: Proxy, worker: Worker) -> None:
    body = bytes(range(256)) * 4096
    client = secure.connect_securely()
    client.send(post(body[:300_000]))
    upstream = worker.asked()
    upstream.head()
    assert upstream.exactly(300_000) == body[:300_000]
    upstream.send(ok(body))
    assert client.response().body == body


def test_what_is_agreed_on(secure: Proxy, pair: Pair) -> None:
    context = pair.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    sock = tls(secure.connect_securely(context))
    assert sock.selected_alpn_protocol() == "http/1.1"
    assert sock.version() == "TLSv1.3"


def test_tls_1_2_is_spoken_with_forward_secrecy(secure: Proxy, worker: Worker, pair: Pair) -> None:
    context = pair.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = secure.connect_securely(context)
    cipher = tls(client).cipher()
    assert cipher is not None and cipher[0].startswith("ECDHE-")
    client.send(get())
    worker.serve(ok())
    assert client.response().status == 200


def test_a_page_has_its_own_word_on_transport_security(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get())
    worker.serve(ok(b"", "Strict-Transport-Security: max-age=0"))
    assert client.response().head["Strict-Transport-Security"] == b"max-age=0"


def test_answers_of_the_proxy_itself_have_it_too(secure: Proxy, worker: Worker) -> None:
    secure.route(page(worker, pattern="/page"), hsts=HSTS)
    response = secure.connect_securely().send(get("/nothing")).response()
    assert response.status == 404
    assert response.head["Strict-Transport-Security"] == HSTS.encode()


def test_a_tunnel(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
    upstream, _ = worker.serve(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.head().line.split()[1] == b"101"
    client.send(b"\x81\x82abcd\x00\x00")
    assert upstream.exactly(8) == b"\x81\x82abcd\x00\x00"
    upstream.send(b"\x81\x02hi")
    assert client.exactly(4) == b"\x81\x02hi"
    upstream.close()
    assert client.rest() == b"", "the end is said by close_notify"


def test_a_slow_reader_holds_the_worker_back_and_gets_all(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get())
    upstream = worker.asked()
    upstream.head()
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\n")
    before = secure.resident_bytes()
    sent = upstream.fill(b"x" * 65536)
    assert secure.resident_bytes() - before < 4 * 2**20
    upstream.close()
    assert client.head()
    assert len(client.chunks()) == sent


# --- how it ends ------------------------------------------------------------------------------------------


def test_the_last_answer_is_followed_by_a_close_notify(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get("/", "Connection: close"))
    worker.serve(ok(b"bye"))
    assert client.rest().endswith(b"bye")


def test_an_endless_answer_that_is_cut_short_ends_without_one(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    upstream, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert client.until(b"hello")
    upstream.close()
    with pytest.raises(UNSAID):
        client.rest()


def test_a_client_that_takes_nothing_is_cut(secure: Proxy, worker: Worker) -> None:
    brief = RouteLimits(write_timeout_seconds=0.2)
    secure.route(page(worker, limits=brief), limits=ServerLimits(write_timeout_seconds=0.2))
    client = secure.connect_securely().send(get())
    upstream = worker.asked()
    upstream.head()
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            upstream.sock.sendall(b"x" * 65536)
    with pytest.raises(UNSAID):
        client.rest()


def test_a_tunnel_that_has_to_end_says_so(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
    worker.serve(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    client.head()
    secure.tell(Cut(worker.number))
    assert client.rest() == b"\x88\x02\x03\xf4", "1012, and a close_notify"


def test_what_is_refused_while_it_is_sent_can_be_read(secure: Proxy, worker: Worker) -> None:
    secure.route(page(worker, limits=RouteLimits(max_body=10)))
    client = secure.connect_securely().send(post(b"x" * 20_000))
    response = client.response()
    assert response.status == 413
    assert client.rest() == b""


def test_a_client_that_says_nothing_more_has_left(secure: Proxy, worker: Worker) -> None:
    client = secure.connect_securely().send(get())
    upstream = worker.asked()
    upstream.head()
    client.sock.shutdown(socket.SHUT_WR)
    assert upstream.is_ended()


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_tls_1_1_is_refused(secure: Proxy, pair: Pair) -> None:
    context = pair.client()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"EOF|ALERT_PROTOCOL_VERSION"):
        secure.connect_securely(context)


def test_plain_http_is_not_answered(secure: Proxy) -> None:
    client = secure.connect().send(get())
    received = client.rest()
    assert b"HTTP/" not in received, "a TLS alert at most"


def test_a_handshake_that_does_not_come_is_ended_as_a_head_would_be(secure: Proxy, worker: Worker) -> None:
    secure.route(page(worker), limits=ServerLimits(read_timeout_seconds=0.2))
    silent = secure.connect()
    halting = secure.connect().send(b"\x16\x03\x01\x02\x00")
    assert silent.is_ended()
    assert halting.is_ended()


def test_of_too_many_handshakes_the_oldest_give_way(worker: Worker, pair: Pair) -> None:
    proxy = Proxy(pair, open_files=200)
    try:
        proxy.route(page(worker))
        silent = [proxy.connect() for _ in range(100)]
        client = proxy.connect_securely().send(get())
        worker.serve(ok())
        assert client.response().status == 200
        assert silent[0].is_ended()
    finally:
        proxy.stop()


# --- the certificate --------------------------------------------------------------------------------------


def test_a_new_certificate_is_that_of_new_connections(worker: Worker, pair: Pair, tmp_path: Path) -> None:
    proxy = Proxy(pair)
    try:
        proxy.route(page(worker))
        old = proxy.connect_securely()
        for renewed in (Pair.make(tmp_path / "rsa", kind="2048"), Pair.make(tmp_path / "ec")):
            proxy.tell(renewed.read())
            proxy.sync()
            new = proxy.connect_securely(renewed.client())
            assert tls(new).getpeercert(binary_form=True) == renewed.der()
            for client in (old, new):
                client.send(get())
                worker.serve(ok())
                assert client.response().status == 200
    finally:
        proxy.stop()


# --- plain HTTP beside it ---------------------------------------------------------------------------------

REDIRECTS = {
    "a path": (get("/a/b?c=%20d"), b"example.org", b"/a/b?c=%20d"),
    "a port": (b"GET / HTTP/1.1\r\nHost: example.org:80\r\n\r\n", b"example.org", b"/"),
    "an address": (b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"[::1]", b"/x"),
    "a whole URL": (b"GET http://other.org/x HTTP/1.1\r\nHost: other.org\r\n\r\n", b"other.org", b"/x"),
    "two slashes": (get("//evil.org/x"), b"example.org", b"//evil.org/x"),
    "the server": (b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n", b"example.org", b"/"),
    "a body": (post(b"hello"), b"example.org", b"/"),
}


@pytest.mark.parametrize("what", REDIRECTS)
def test_where_a_request_is_sent(secure: Proxy, what: str) -> None:
    request, host, target = REDIRECTS[what]
    response = secure.connect_to_redirect().send(request).response()
    assert response.status == 308
    assert response.head["Location"] == b"https://%b:%d%b" % (host, secure.port, target)
    assert "Strict-Transport-Security" not in response.head, "RFC 6797 7.2: not over plain HTTP"


def test_without_a_host_there_is_nowhere_to_send(secure: Proxy) -> None:
    assert secure.connect_to_redirect().send(b"GET / HTTP/1.0\r\n\r\n").response().status == 400


# --- the proxy leaves -------------------------------------------------------------------------------------


def test_a_handshake_that_is_under_way_is_finished_and_answered(worker: Worker, pair: Pair) -> None:
    proxy = Proxy(pair)
    try:
        proxy.route(page(worker))
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = pair.client().wrap_bio(down, up, server_hostname="localhost")
        raw = proxy.connect()
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = up.read()
        raw.send(hello[:100])
        proxy.tell(Leave(10.0))
        proxy.sync()
        raw.send(hello[100:])
        _exchange(client.do_handshake, raw, up, down)
        client.write(get())
        raw.send(up.read())
        worker.serve(ok(b"late"))
        received = b""
        while b"late" not in received:
            received += _exchange(lambda: client.read(65536), raw, up, down)
        assert b"Connection: close" in received
    finally:
        proxy.stop()


def _exchange(step: Callable[[], bytes | None], raw: Wire, up: ssl.MemoryBIO, down: ssl.MemoryBIO) -> bytes:
    """Do one step of TLS in memory, with what it needs from the other side and for it."""
    while True:
        try:
            return step() or b""
        except ssl.SSLWantReadError:
            raw.send(up.read())
            down.write(raw.some())
        finally:
            raw.send(up.read())
