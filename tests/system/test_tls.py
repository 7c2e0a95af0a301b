"""server.tls: served, renewed, redirected to, handed over, switched on and off, and said what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl

import pytest

from tests.certificates import Pair
from tests.system import cli, client, sources
from tests.system.harness import Server, free_port, wait_until
from tests.system.load import Load
from tests.system.test_upgrade import Heir, hand_over, heirs  # noqa: F401
from tests.system.test_websocket import ECHO


@pytest.fixture
def pair(server: Server) -> Pair:
    """The server's certificate."""
    return Pair.make(server.root / "tls")


def settings(server: Server, more: str = "") -> str:
    return (
        f"server:\n  port: {server.port}\n  log_file: logs/server.log\n"
        f"  tls:\n    cert: tls/cert.pem\n    key: tls/key.pem\n{more}"
    )


def started(server: Server, more: str = "") -> Server:
    server.configure(settings(server, more))
    server.page("page", sources.functions("v0"))
    server.start()
    server.wait_live("page")
    return server


def shown(server: Server) -> bytes:
    """The certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""


def wait_shown(server: Server, pair: Pair) -> None:
    wait_until(lambda: shown(server) == pair.der(), server.tail)


def test_pages_over_tls(server: Server, pair: Pair) -> None:
    redirect = free_port()
    started(server, f"    redirect_port: {redirect}\n    hsts_seconds: 60\n")
    assert server.events("server.ready")[0]["url"] == f"https://127.0.0.1:{server.port}"
    answer = client.fetch(server.port, "/page", tls=pair.client())
    assert (answer.status, answer.text) == (200, "v0")
    assert answer.headers["strict-transport-security"] == "max-age=60"
    moved = client.fetch(redirect, "/page?x=1")
    assert (moved.status, moved.headers["location"]) == (308, f"https://127.0.0.1:{server.port}/page?x=1")


def test_a_large_file_of_a_page_over_tls(server: Server, pair: Pair) -> None:
    """The kernel cannot send what this process encrypts."""
    text = "".join(f"line {number}\n" for number in range(500_000))
    server.write("pages/page/public/large.txt", text)
    started(server, "    hsts_seconds: 60\n")
    with client.Connection(server.port, tls=pair.client()) as connection:
        for _ in range(2):
            answer = connection.request("/page/large.txt")
            assert (answer.status, answer.text == text) == (200, True)
            assert answer.headers["strict-transport-security"] == "max-age=60"
        part = connection.request("/page/large.txt", headers={"Range": "bytes=1000000-5000000"})
        assert (part.status, part.text == text[1000000:5000001]) == (206, True)


def test_a_certificate_that_is_renewed_under_load(server: Server, pair: Pair) -> None:
    started(server)
    trusted = pair.client()
    with Load(server.port, "/page", tls=trusted) as load:
        for name, kind in (("first", "2048"), ("second", "ec")):
            renewed = Pair.make(server.root / name, kind=kind)
            trusted.load_verify_locations(str(renewed.cert))
            renewed.put_in_place_of(pair)
            wait_shown(server, renewed)
        server.edit("pages/page/main.py", sources.functions("v1"))
        wait_until(lambda: client.fetch(server.port, "/page", tls=trusted).text == "v1", server.tail)
        load.switched(1)
    load.assert_no_failure()
    assert len(server.events("tls.certificate")) == 3


def test_certificates_behind_symbolic_links(server: Server) -> None:
    """As certbot keeps them: live/ has links to archive/, which are made anew."""
    archive = [Pair.make(server.root / "archive" / name) for name in ("1", "2")]
    live = server.root / "tls"
    live.mkdir()

    def link(pair: Pair) -> None:
        for file in (pair.cert, pair.key):
            (live / file.name).unlink(missing_ok=True)
            (live / file.name).symlink_to(os.path.relpath(file, live))

    link(archive[0])
    started(server)
    assert shown(server) == archive[0].der()
    link(archive[1])
    wait_shown(server, archive[1])


def test_a_pair_that_is_none_leaves_the_old_one(server: Server, pair: Pair) -> None:
    server.expect_errors("tls.failed")
    started(server)
    before = pair.der()
    other = Pair.make(server.root / "other")
    since = server.mark()
    shutil.copy(other.key, pair.key)
    failed = server.wait_log("tls.failed", since)
    assert "config/server.yaml:6:10: the private key is not that of the certificate" in failed["error"]
    assert "PRIVATE" not in server.tail()
    assert shown(server) == before
    assert client.fetch(server.port, "/page", tls=_trusting(before)).text == "v0"
    server.signal(signal.SIGHUP)  # nothing is better by that
    shutil.copy(other.cert, pair.cert)
    wait_shown(server, other)


def _trusting(der: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=der)


def test_a_proxy_that_is_started_anew_shows_the_last_good_pair(server: Server, pair: Pair) -> None:
    server.expect_errors("tls.failed", "proxy.exited")
    started(server)
    before = pair.der()
    pair.cert.unlink()
    server.wait_log("tls.failed")
    since = server.mark()
    os.kill(server.proxy_pid(), signal.SIGKILL)
    server.wait_log("proxy.started", since)
    assert shown(server) == before


def test_tls_is_switched_on_and_off_and_moved(server: Server, pair: Pair) -> None:
    """On from the plain port, whose socket is that of the redirect from then on; off again on the same."""
    server.page("page", sources.plain("ok"))
    server.start()
    server.wait_body("/page", "ok")
    plain, server.port = server.port, free_port()
    server.configure(settings(server, f"    redirect_port: {plain}\n"))
    assert server.wait_log("server.moved")["url"] == f"https://127.0.0.1:{server.port}"
    assert client.fetch(server.port, "/page", tls=pair.client()).text == "ok"
    assert client.fetch(plain, "/page").status == 308
    since = server.mark()
    server.configure(f"server:\n  port: {plain}\n  log_file: logs/server.log\n")
    assert server.wait_log("server.moved", since)["url"] == f"http://127.0.0.1:{plain}"
    assert client.fetch(plain, "/page").text == "ok"
    with pytest.raises(ConnectionRefusedError):
        client.fetch(server.port, "/page")


def test_a_setting_that_does_not_work_changes_nothing(server: Server, pair: Pair) -> None:
    server.expect_errors("config.invalid")
    server.page("page", sources.plain("ok"))
    server.start()
    server.wait_body("/page", "ok")
    pair.key.unlink()
    server.configure(settings(server))
    error = server.wait_log("config.invalid")["error"]
    assert error.startswith("config/server.yaml:6:10: ")
    assert "key.pem: No such file or directory" in error
    server.wait_body("/page", "ok")


def test_a_start_with_a_certificate_that_does_not_work(server: Server, pair: Pair) -> None:
    pair.cert.write_text("nothing")
    server.configure(settings(server))
    server.launch()
    assert server.wait_exit() != 0
    assert "config/server.yaml:5:11" in server.terminal
    assert "holds no certificate" in server.terminal


def test_a_new_server_takes_over(server: Server, pair: Pair, heirs: list[Heir]) -> None:  # noqa: F811
    redirect = free_port()
    started(server, f"    redirect_port: {redirect}\n")
    with Load(server.port, "/page", downloads=False, tls=pair.client()) as load:
        hand_over(server, heirs)
        wait_until(lambda: client.fetch(redirect, "/page").status == 308)
    load.assert_no_failure()


def test_websocket(server: Server, pair: Pair) -> None:
    server.configure(settings(server))
    server.page("chat", ECHO.replace("@VERSION@", "v0"))
    server.start()
    server.wait_live("chat")
    with contextlib.closing(client.WebSocket(server.port, "/chat/ws", tls=pair.client())) as sock:
        for text in ("hello", "x" * 20_000):
            sock.send(text)
            assert sock.receive() == f"v0 {text}"


def test_check_and_doctor_tell_of_it(server: Server, pair: Pair) -> None:
    server.page("page", sources.plain("ok"))
    server.configure(settings(server))
    assert "for localhost, 127.0.0.1, until" in cli.run(server.root, "check").out
    pair.key.chmod(0o644)
    assert "every user of this machine may read" in cli.run(server.root, "doctor").out
    pair.key.unlink()
    checked = cli.run(server.root, "check")
    assert checked.code != 0
    assert "config/server.yaml:6:10" in checked.out
