"""The access log of a proxy: what gets a line, when it is written, and what is lost and told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page
from tests.system.harness import wait_until
from tqserver.wire.messages import AccessLogged, Leave

LINE = re.compile(
    rb'127\.0\.0\.1 - - \[[^\]]+\] "([^"]*)" (\d+) (\d+) "-" "([^"]*)" [\d.]+ (\S+) "([^"]*)" (\d+) (\d+)'
)


class Log:
    """The file that a proxy writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = AccessLogged("text", str(path), 1.0)

    def lines(self, count: int) -> list[tuple[bytes, ...]]:
        """Wait for so many lines; return the request, status, bytes, agent, id, page, revision and worker of each."""
        wait_until(lambda: len(self._read()) >= count, lambda: f"{count} lines: {self._read()}")
        found = [LINE.fullmatch(line) for line in self._read()]
        assert len(found) == count
        return [each.groups() for each in found if each]

    def _read(self) -> list[bytes]:
        return self.path.read_bytes().splitlines() if self.path.exists() else []


@pytest.fixture
def log(proxy: Proxy, worker: Worker, tmp_path: Path) -> Log:
    log = Log(tmp_path / "access.log")
    proxy.route(page(worker, name="home"), access_log=log.settings)
    return log


def test_what_is_in_a_line(proxy: Proxy, worker: Worker, log: Log) -> None:
    client = proxy.connect().send(get("/a", "User-Agent: me", "X-Request-Id: mine"))
    worker.serve(ok(b"hello"))
    client.response()
    number = str(worker.number).encode()
    assert log.lines(1) == [(b"GET /a HTTP/1.1", b"200", b"5", b"me", b"mine", b"home", b"1", number)]


def test_bytes_are_those_of_the_body(proxy: Proxy, worker: Worker, log: Log) -> None:
    client = proxy.connect()
    client.send(get())
    worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert client.response().body == b"abcdefg"
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    client.response(bodiless=True)
    assert [line[2] for line in log.lines(2)] == [b"7", b"0"]


def test_what_the_proxy_answers_has_a_line(proxy: Proxy, worker: Worker, log: Log) -> None:
    proxy.route(page(worker, pattern="/page"), access_log=log.settings)
    response = proxy.connect().send(get("/nothing")).response()
    proxy.connect().send(b"nonsense\r\n\r\n").response()
    nothing, nonsense = log.lines(2)
    assert nothing[:3] == (b"GET /nothing HTTP/1.1", b"404", str(len(response.body)).encode())
    assert nothing[5:] == (b"-", b"0", b"0")
    assert nonsense[:2] == (b"-", b"400")


def test_a_client_that_leaves_has_a_line(proxy: Proxy, worker: Worker, log: Log) -> None:
    client = proxy.connect().send(get())
    worker.asked().head()
    client.reset()
    assert log.lines(1)[0][1] == b"499"


def test_a_tunnel_has_its_line_at_its_end(proxy: Proxy, worker: Worker, log: Log) -> None:
    client = proxy.connect().send(get("/", "Connection: Upgrade", "Upgrade: x"))
    upstream, _ = worker.serve(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nabc")
    client.head()
    upstream.send(b"defg")
    assert client.exactly(7) == b"abcdefg"
    upstream.close()
    client.rest()
    assert log.lines(1)[0][1:3] == (b"101", b"7")


def test_a_share_of_them(proxy: Proxy, worker: Worker, log: Log) -> None:
    proxy.route(page(worker), access_log=AccessLogged("text", str(log.path), 0.25))
    client = proxy.connect()
    for _ in range(8):
        client.send(get())
        worker.serve(ok())
        client.response()
    proxy.route(page(worker))  # which writes what was gathered
    assert len(log.lines(2)) == 2


def test_a_file_that_is_moved_away_is_opened_anew(proxy: Proxy, worker: Worker, log: Log) -> None:
    client = proxy.connect()
    for number in range(2):
        client.send(get(f"/{number}"))
        worker.serve(ok())
        client.response()
        assert log.lines(1)[0][0] == b"GET /%d HTTP/1.1" % number
        log.path.rename(log.path.with_suffix(f".{number}"))


def test_behind_a_trusted_proxy_the_client_is_whom_that_saw(proxy: Proxy, worker: Worker, log: Log) -> None:
    proxy.route(page(worker), access_log=log.settings, trusted_proxies=["127.0.0.1"])
    client = proxy.connect()
    for forwarded in ("203.0.113.9, 198.51.100.7", 'x" 200'):
        client.send(get("/", f"X-Forwarded-For: {forwarded}"))
        worker.serve(ok())
        client.response()
    wait_until(lambda: len(log._read()) == 2)
    assert [line.split()[0] for line in log._read()] == [b"198.51.100.7", b"127.0.0.1"]


# --- the end ----------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def test_standard_output_and_what_is_written_at_the_end(worker: Worker, pipe: tuple[int, int]) -> None:
    proxy = Proxy(stdout=pipe[1])
    try:
        proxy.route(page(worker), access_log=AccessLogged("text", "", 1.0))
        for path in ("/first", "/second"):
            proxy.connect().send(get(path))
            worker.accept().head()
        proxy.tell(Leave(0.0))
        assert proxy.process.wait(10) == 0
        lines = os.read(pipe[0], 65536).splitlines()
        assert len(lines) == 2
        assert all(b" 499 " in line for line in lines), "they were given up, and have their lines"
    finally:
        proxy.stop()


def test_a_reader_that_does_not_read_holds_nobody_up(worker: Worker, pipe: tuple[int, int]) -> None:
    """What cannot be written is kept for a while, and the loop goes on."""
    proxy = Proxy(stdout=pipe[1])
    try:
        proxy.route(page(worker), access_log=AccessLogged("json", "", 1.0))
        client = proxy.connect()
        long = "x" * 1500
        for _ in range(200):  # more than a pipe holds
            client.send(get("/", f"User-Agent: {long}", f"Referer: {long}"))
            worker.serve(ok())
            assert client.response().status == 200
    finally:
        proxy.stop()
