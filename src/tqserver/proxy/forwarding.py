"""What a worker is told about the client, and whom to believe about it.

A peer outside ``trusted_proxies`` is the client: whatever it sent as X-Forwarded-* or Forwarded is dropped. A
trusted one speaks for somebody else: its fields are kept, and its own address is appended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tqserver.wire.http1 import RequestHead

Network = IPv4Network | IPv6Network

_CLIENT_NETWORK_BYTES = 8  # RFC 4291 2.5.4: a /64; all of an IPv4 address
HTTPS_PORT = 443
_PORT = re.compile(rb":[0-9]*$")  # of a valid Host; of an IPv6 address, only what is behind its bracket
_FOR = b"\r\nX-Forwarded-For: "
_PROTO = b"\r\nX-Forwarded-Proto: "
_HOST = b"\r\nX-Forwarded-Host: "


class Peer:
    """The other end of a client's connection. What is the same for all its requests is made once.

    ``counted_as`` is the same for what one client can connect from: its address, of IPv6 the network of it, since a
    client has all of that. It is empty for a peer without an address.
    """

    __slots__ = ("_known", "address", "counted_as", "is_trusted", "scheme")

    def __init__(self, address: str, scheme: bytes, trusted: Sequence[Network]) -> None:
        parsed = _parsed(address)
        self.address = (str(parsed) if parsed is not None else address).encode("ascii", "replace")
        self.counted_as = parsed.packed[:_CLIENT_NETWORK_BYTES] if parsed is not None else b""
        self.scheme = scheme
        self.is_trusted = parsed is not None and any(parsed in network for network in trusted)
        self._known = _FOR + self.address + _PROTO + scheme + _HOST

    def fields(self, request: RequestHead) -> bytes:
        """Return the forwarding fields of a request, each line with its CRLF in front."""
        if not (self.is_trusted and request.forwarded):
            return self._known + (request.host or b"")
        return self._extended(request)

    def speaks_for(self, request: RequestHead) -> bytes:
        """Return the address of the client: the peer's, or whom a trusted peer names last as the one that it saw."""
        if not (self.is_trusted and request.forwarded):
            return self.address
        through = [value for name, value in request.forwarded if name == b"x-forwarded-for"]
        named = through[-1].rpartition(b",")[2].strip().decode("latin-1") if through else ""
        return named.encode() if _parsed(named) else self.address

    def _extended(self, request: RequestHead) -> bytes:
        named = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
        through = [value for name, value in request.forwarded if name == named[0]]
        known = dict(request.forwarded)
        others = (b"\r\n" + name + b": " + value for name, value in request.forwarded if name not in named)
        return b"".join((
            _FOR, b", ".join([*through, self.address]),
            _PROTO, known.get(named[1], self.scheme),
            _HOST, known.get(named[2], request.host or b""),
            *others,
        ))  # fmt: skip


def secure_url(request: RequestHead, port: int) -> bytes | None:
    """Return where a request is to be sent to https on ``port``; None if it does not say for which host it is."""
    host = _PORT.sub(b"", request.host or b"")
    if not host:
        return None
    target = request.target if request.target.startswith(b"/") else b"/"  # OPTIONS *
    return b"https://" + host + (b"" if port == HTTPS_PORT else b":%d" % port) + target


def networks(texts: Sequence[str]) -> list[Network]:
    """Parse addresses and networks ("10.0.0.0/8", "::1"). Raises ValueError."""
    return [ip_network(text, strict=False) for text in texts]


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 client of an IPv6 socket is taken for what it is; a unix socket's peer has no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
