"""Sockets: listening ones, pairs between programs, and descriptors that travel with a frame."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqserver.model.errors import HostError
from tqserver.wire.frames import HEADER_BYTES, frame, frame_length

BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
MAX_DESCRIPTORS = 8
_BYTES_ACKED_AT = 120  # tcpi_bytes_acked in struct tcp_info (linux/tcp.h)


def listen(host: str, port: int, *, host_from: str = "server.host", port_from: str = "server.port") -> socket.socket:
    """Return a listening TCP socket. Raises :class:`HostError` naming the remedy, by the settings that say where."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = _remedy(error, port, host_from, port_from)
        raise HostError(f"cannot listen on {host}:{port}: {error.strerror}", remedy=remedy) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL of what listens here."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _remedy(error: OSError, port: int, host_from: str, port_from: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"another program listens there; stop it (ss -ltnp 'sport = :{port}' names it) "
            f"or set {port_from} in the configuration, or TQSERVER_{port_from.upper().replace('.', '__')}"
        )
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege: choose another, or grant CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host_from} is not an address of this machine"
    return f"check {' and '.join(dict.fromkeys((host_from, port_from)))} in the configuration"


def bytes_acknowledged(connection: socket.socket) -> int:
    """Return how many bytes the other end of a TCP connection has taken so far, less a multiple of 2**64."""
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
    return int.from_bytes(state[_BYTES_ACKED_AT:], sys.byteorder)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected stream sockets, neither of which an exec inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def send_frame(sock: socket.socket, payload: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one frame on a blocking socket, the descriptors with its first byte."""
    packet = frame(payload)
    sent = socket.send_fds(sock, [packet], list(descriptors)) if descriptors else sock.send(packet)
    if sent < len(packet):  # even an empty send fails once the peer has closed, though it has all it wanted
        sock.sendall(packet[sent:])


def receive_frame(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next frame's payload and descriptors from a blocking socket, None at its end."""
    header, descriptors, _, _ = socket.recv_fds(sock, HEADER_BYTES, MAX_DESCRIPTORS)
    if not header:
        return None
    header += _receive_exactly(sock, HEADER_BYTES - len(header))
    return _receive_exactly(sock, frame_length(header)), list(descriptors)


def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        part = sock.recv(count - len(received))
        if not part:
            raise EOFError("the socket ended within a frame")
        received += part
    return bytes(received)


def connect(endpoint: str, timeout_seconds: float) -> socket.socket:
    """Return a blocking connection to ``unix:/path`` or ``tcp:host:port``. Raises OSError."""
    kind, _, where = endpoint.partition(":")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_seconds)
        try:
            sock.connect(where)
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = where.rpartition(":")
    return socket.create_connection((host, int(port)), timeout_seconds)


# --- unix sockets by path ---------------------------------------------------------------------------------


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket at ``path`` that only its owner may connect to; what is there is replaced at once.

    The path may be longer than the 107 bytes of a socket address. Raises :class:`HostError`.
    """
    scratch = path.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # before bind: it is never there with other rights
        with _address(scratch) as address:
            listener.bind(address)
        listener.listen()
        scratch.rename(path)  # whoever connects finds one that listens: the one before, or this
    except OSError as error:
        listener.close()
        raise HostError(
            f"cannot listen on {path}: {error.strerror}", remedy="the filesystem must allow unix sockets"
        ) from error
    listener.setblocking(False)
    return listener


def connect_unix(path: Path) -> socket.socket:
    """Return a blocking connection to the socket at ``path``, however long that is. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give a short name of ``path``, by way of its open directory (proc(5), /proc/self/fd)."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
