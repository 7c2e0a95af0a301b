"""A real proxy process, with the test at all its ends: control, client and worker.

Every socket is blocking and has a deadline, so a test reads as a transcript and needs no sleeps: what it
waits for comes, or the test fails.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from tests.certificates import Pair
from tqserver.wire.frames import FrameDecoder, frame
from tqserver.wire.messages import (
    Acknowledged,
    Drained,
    FromProxy,
    Hello,
    RouteEntry,
    ServerLimits,
    Snapshot,
    ToProxy,
    WorkerRef,
    from_proxy,
    to_proxy,
)

DEADLINE_SECONDS = 10.0
OWN_NAME = "example.org"  # server.host, and what clients ask for
MessageT = TypeVar("MessageT", bound=FromProxy)

# What is in the files of a page that has any:
STYLE = b"body { color: teal }\n"
LARGE = random.Random(4).randbytes(3_000_017)


@dataclass
class Head:
    """The head of a message, as the other side sees it."""

    raw: bytes
    line: bytes
    fields: list[tuple[bytes, bytes]]

    def __getitem__(self, name: str) -> bytes:
        values = self.all(name)
        assert len(values) == 1, f"{name} is there {len(values)} times: {self.raw!r}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> list[bytes]:
        return [value for field, value in self.fields if field.lower() == name.lower().encode()]


def parse_head(raw: bytes) -> Head:
    line, *fields = raw[:-4].split(b"\r\n")
    return Head(raw, line, [(name, value) for name, _, value in (field.partition(b": ") for field in fields)])


@dataclass
class Response:
    """A whole response: its head, and its body without framing."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.line.split()[1])


class Wire:
    """A socket in a test's words."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE_SECONDS)
        self.sock = sock
        self._received = b""

    def send(self, *data: bytes) -> Wire:
        for part in data:
            self.sock.sendall(part)
        return self

    def _more(self) -> bool:
        received = self.sock.recv(65536)
        self._received += received
        return bool(received)

    def _take(self, length: int) -> bytes:
        taken, self._received = self._received[:length], self._received[length:]
        return taken

    def until(self, end: bytes) -> bytes:
        while end not in self._received:
            assert self._more(), f"ended without {end!r}: {self._received!r}"
        return self._take(self._received.index(end) + len(end))

    def some(self) -> bytes:
        """Whatever has come, at least a byte."""
        assert self._received or self._more(), "ended"
        return self._take(len(self._received))

    def exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            assert self._more(), f"ended after {len(self._received)} of {length} bytes: {self._received[-100:]!r}"
        return self._take(length)

    def rest(self) -> bytes:
        """Everything up to the end; ConnectionResetError if it was reset."""
        while self._more():
            pass
        return self._take(len(self._received))

    def is_ended(self) -> bool:
        """Wait for the end, orderly or not, and tell whether nothing came before it."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return self._received == b""

    def head(self) -> Head:
        return parse_head(self.until(b"\r\n\r\n"))

    def chunks(self) -> bytes:
        """The body of a chunked message, to its end."""
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n"
        return body

    def response(self, *, bodiless: bool = False) -> Response:
        head = self.head()
        if bodiless:
            return Response(head, b"")
        if "Transfer-Encoding" in head:
            return Response(head, self.chunks())
        if "Content-Length" in head:
            return Response(head, self.exactly(int(head["Content-Length"])))
        return Response(head, self.rest())

    def fill(self, data: bytes) -> int:
        """Send ``data`` over and over until the other side has taken nothing for a while; return how much."""
        sent = 0
        self.sock.settimeout(0.3)
        try:
            while True:
                sent += self.sock.send(data)
        except TimeoutError:
            return sent
        finally:
            self.sock.settimeout(DEADLINE_SECONDS)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close so that the other side sees a reset (TCP); nothing if it is closed."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    def half_close(self) -> Wire:
        """Send nothing more, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)
        return self


class Worker:
    """A worker that does only what the test says."""

    numbers = count(1)

    def __init__(self, directory: Path) -> None:
        self.number = next(self.numbers)
        self.path = directory / f"{self.number}.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self._listener.settimeout(DEADLINE_SECONDS)
        self._connections: list[Wire] = []

    @property
    def ref(self) -> WorkerRef:
        return WorkerRef(self.number, f"unix:{self.path}")

    def accept(self) -> Wire:
        connection = Wire(self._listener.accept()[0])
        self._connections.append(connection)  # only a test closes it
        return connection

    def current(self) -> Wire:
        """The latest connection, which is kept alive; the first if there is none yet."""
        return self._connections[-1] if self._connections else self.accept()

    def asked(self) -> Wire:
        """The connection on which the next request comes: a new one, or one that is kept alive."""
        while True:
            sources = [self._listener, *(each.sock for each in self._connections if each.sock.fileno() >= 0)]
            readable, _, _ = select.select(sources, [], [], DEADLINE_SECONDS)
            assert readable, "no request came"
            for connection in self._connections:
                if connection.sock in readable and connection.sock.recv(1, socket.MSG_PEEK):
                    return connection
                if connection.sock in readable:
                    connection.close()
            if self._listener in readable:
                self.accept()

    def serve(self, response: bytes) -> tuple[Wire, Head]:
        """Read the head of the next request, and answer."""
        connection = self.asked()
        head = connection.head()
        connection.send(response)
        return connection, head

    def stop(self) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def stop_listening(self) -> None:
        self._listener.close()


class Proxy:
    """A proxy process; the test is its control."""

    versions = count(1)

    def __init__(self, pair: Pair | None = None, *, stdout: int = 2, open_files: int | None = None) -> None:
        """``open_files`` is how many the process may have, where not as many as this one."""
        self._listener = _listening()
        self._redirect = _listening() if pair is not None else None
        self._pair = pair
        self.link, theirs = socket.socketpair()
        self.link.settimeout(DEADLINE_SECONDS)
        with theirs:
            told = {
                "--stdout": stdout,
                "--link": theirs.fileno(),
                "--listen" if pair is None else "--listen-tls": self._listener.fileno(),
            }
            if self._redirect is not None:
                told["--redirect"] = self._redirect.fileno()
            arguments = [word for name, number in told.items() for word in (name, str(number))]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tqserver.proxy", "--name", "proxy-0", *arguments],
                pass_fds=list(told.values()),
                preexec_fn=None if open_files is None else partial(_allow, open_files),
            )
        self._decoder = FrameDecoder()
        self._heard: list[FromProxy] = []
        self._clients: list[Wire] = []
        assert self.hear(Hello).pid == self.process.pid
        if pair is not None:
            self.tell(pair.read())

    def tell(self, message: ToProxy) -> None:
        self.link.sendall(frame(to_proxy.encode(message)))

    def hear(self, kind: type[MessageT], **fields: Any) -> MessageT:
        """Return the next message of this kind and with these values, which may have come already."""
        while True:
            for message in self._heard:
                if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                    self._heard.remove(message)
                    return message
            self._listen()

    def _listen(self) -> None:
        received = self.link.recv(65536)
        assert received, "the proxy closed its link"
        self._heard += [from_proxy.decode(payload) for payload in self._decoder.feed(received)]

    def has_heard(self, kind: type[FromProxy]) -> bool:
        """Whether a message of this kind came before the answer to what the proxy is asked now."""
        self.hear(Acknowledged, version=self.retell())
        return any(isinstance(message, kind) for message in self._heard)

    def route(self, *routes: RouteEntry, limits: ServerLimits | None = None, **more: Any) -> Snapshot:
        """Replace the routing table, and wait until it is."""
        mode, limits = more.pop("mode", "prod"), limits or ServerLimits()
        more.setdefault("host", OWN_NAME)
        self._snapshot = Snapshot(next(self.versions), mode, list(routes), limits, **more)
        self.tell(self._snapshot)
        self.hear(Acknowledged, version=self._snapshot.version)
        return self._snapshot

    def sync(self) -> None:
        """Wait until what it was told has been heard."""
        self.hear(Acknowledged, version=self.retell())

    def retell(self) -> int:
        """Send the same table again; return its version."""
        old = self._snapshot
        self._snapshot = Snapshot(next(self.versions), old.mode, old.routes, old.limits, old.trusted_proxies, old.host)
        self.tell(self._snapshot)
        return self._snapshot.version

    def connect(self) -> Wire:
        client = Wire(socket.create_connection(self._listener.getsockname(), DEADLINE_SECONDS))
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.append(client)
        return client

    def connect_securely(self, context: ssl.SSLContext | None = None) -> Wire:
        """Connect by TLS, and believe only in the proxy's certificate."""
        assert self._pair is not None
        plain = socket.create_connection(self._listener.getsockname(), DEADLINE_SECONDS)
        context = context or self._pair.client()
        client = Wire(context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False))
        self._clients.append(client)
        return client

    def connect_to_redirect(self) -> Wire:
        assert self._redirect is not None
        client = Wire(socket.create_connection(self._redirect.getsockname(), DEADLINE_SECONDS))
        self._clients.append(client)
        return client

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def hang_up(self) -> None:
        """Close all clients so that the proxy sees it, and forget what was heard."""
        for client in self._clients:
            client.reset()
        self._clients.clear()
        left = [ref.worker for row in self._snapshot.routes for ref in row.workers]
        self.route()
        for worker in left:
            self.hear(Drained, worker=worker)
        self._heard.clear()

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
        self.link.close()
        self._listener.close()
        if self._redirect is not None:
            self._redirect.close()


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _allow(open_files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def page(*workers: Worker, name: str = "index", pattern: str = "/", **more: Any) -> RouteEntry:
    return RouteEntry(pattern, name, 1, [worker.ref for worker in workers], **more)


def with_files(public: Path, *workers: Worker, **more: Any) -> RouteEntry:
    """A page with a public/ directory."""
    return page(*workers, public=str(public), **more)


def get(path: str = "/", *fields: str) -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {OWN_NAME}", *fields]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n"


def post(body: bytes, *fields: str, method: str = "POST") -> bytes:
    """A request with a body of a known length."""
    lines = [f"{method} / HTTP/1.1", f"Host: {OWN_NAME}", f"Content-Length: {len(body)}", *fields]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n" + body


def ok(body: bytes = b"hello", *fields: str) -> bytes:
    """A response with a body of a known length."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n" + body
