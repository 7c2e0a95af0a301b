"""A client's connection: requests are read from it one at a time, in order; after each it stays or is closed.

Bytes that cannot be used yet are put by here; where a request goes and what is answered is its relay's to say.
The methods stand in the order in which things happen to a connection.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import termios
from typing import TYPE_CHECKING

from tqserver.host.sockets import bytes_acknowledged
from tqserver.proxy import replies
from tqserver.proxy.admission import refused_head, refused_partial_head
from tqserver.proxy.exchange import Exchange
from tqserver.proxy.flow import BACKLOG, HIGH_WATER_BYTES, Flow
from tqserver.proxy.forwarding import Peer
from tqserver.proxy.relay import Relay
from tqserver.wire.http1 import BadMessage, RequestReader

if TYPE_CHECKING:
    from tqserver.proxy.home import Home

LINGER_SECONDS = 2.0
NEW_SECONDS = 1.0  # in which a client that has just connected is expected to ask
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Downstream(Flow):
    """One connection of a client.

    ``relay`` has the request that is being answered, if there is one. ``deadline`` bounds whatever is waited
    for. ``peer`` is the client as workers are told of it. ``is_half_closed``: it sends nothing more, and may still
    read. ``is_tls``: what is written does not go to the socket as it is. ``fields`` are lines that every answer here
    has, each with its CRLF in front. ``redirects_to`` is the port of https to which all requests are sent; 0: they
    are served here.
    """

    __slots__ = (
        "_backlog", "_came_at", "_has_served", "_home", "_is_lingering", "_mark", "_reader", "_searched", "_wait_until",
        "deadline", "fields", "is_half_closed", "is_tls", "peer", "redirects_to", "relay",
    )  # fmt: skip

    def __init__(self, home: Home, redirects_to: int = 0) -> None:
        super().__init__()
        self._home = home
        self._backlog = b""  # read, and not used yet
        self._reader = RequestReader()
        self._searched = 0  # bytes of the backlog that hold no end of a head
        self._has_served = False
        self._is_lingering = False
        self._mark = 0
        self._wait_until = 0.0
        self.deadline = math.inf
        self.is_half_closed = False
        self.is_tls = False
        self.fields = b""
        self.redirects_to = redirects_to
        self.relay = Relay(self, home)

    def opposite(self) -> Flow | None:
        """What is written to the client is read from the worker."""
        return self.relay.upstream

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost if it is closed: it has not asked, for a while if it is new."""
        is_new = not self._has_served and self._home.ticker.now - self._came_at < NEW_SECONDS
        return not (self.relay.exchange is not None or self._backlog or self._is_lingering or is_new)

    def wait(self, seconds: float) -> None:
        """Bound what is waited for now."""
        self.deadline = self._home.ticker.now + seconds

    # --- a request comes ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected (asyncio)."""
        super().connection_made(transport)
        table = self._home.table
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        if self.is_tls:
            self.fields = table.tls_fields
        address = transport.get_extra_info("peername")
        self.peer = Peer(address[0] if address else "", b"https" if self.is_tls else b"http", table.trusted)
        self._came_at = self._home.ticker.now
        if not self._home.clients.add(self):
            self.transport.abort()
            return
        # The handshake of one that comes while the proxy leaves was waited for: now it may ask, once.
        self.wait(LINGER_SECONDS if self._home.is_leaving else table.limits.idle_timeout_seconds)

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio)."""
        if self._is_lingering:
            return
        relay = self.relay
        if relay.exchange is None and not self.is_full:
            self._read_head(data)
        elif not relay.receive(data):
            self._put_by(data)

    def _put_by(self, data: bytes) -> None:
        """Too early for these bytes: no worker is chosen yet, or an earlier request is being answered."""
        self._backlog += data
        if len(self._backlog) >= HIGH_WATER_BYTES:
            self.hold(BACKLOG)

    def put_back(self, data: bytes) -> None:
        """These bytes were not the request's that is being answered: they begin the next."""
        self._backlog = data

    def take_backlog(self) -> bytes:
        """Return what was put by."""
        backlog, self._backlog = self._backlog, b""
        self.let_go(BACKLOG)
        return backlog

    def _read_head(self, received: bytes) -> None:
        data = self._backlog + received if self._backlog else received
        if data[0] in b"\r\n":  # RFC 9112 2.2: an empty line before a request is ignored
            data = data.lstrip(b"\r\n")
        try:
            request = self._reader.read(data, self._searched)
        except BadMessage as error:
            self._reject(error.status, str(error))
            return
        if request is None:
            self._wait_for_head(data)
            return
        self._backlog = data[request.size :]
        self._searched = 0
        if self._reasons and len(self._backlog) < HIGH_WATER_BYTES:
            self.let_go(BACKLOG)
        home = self._home
        request_id = request.request_id or home.next_request_id()
        self.relay.begin(
            Exchange(request, request_id, self.peer.fields(request)),
            refused_head(request, home.table.limits),
        )

    def _wait_for_head(self, data: bytes) -> None:
        if self.is_half_closed:  # the rest will not come
            self.close()
            return
        if data and not self._searched:  # the head as a whole is bounded, not the silence within it
            self.wait(self._home.table.limits.read_timeout_seconds)
        self._backlog = data
        self._searched = len(data)
        self.let_go(BACKLOG)
        refused = refused_partial_head(data, self._home.table.limits)
        if refused is not None:
            self._reject(refused)

    def _reject(self, status: int, detail: str = "") -> None:
        """What came is not a request: answer, and read nothing more."""
        reply = replies.Reply(status, self._home.next_request_id(), keep_alive=False, detail=detail, fields=self.fields)
        self._home.table.nobody.codes[status // 100] += 1
        if self._home.access is not None:
            self._home.access.note_malformed(self.peer.address, status, reply.request_id)
        self.transport.write(self._home.render(reply, None))
        self._linger()

    def eof_received(self) -> bool:
        """The client sends nothing more (asyncio); True keeps the connection, since what it asked is answered.

        Whoever closes both halves looks the same, until something is written to it. Over TLS, uvloop closes the
        connection when this returns.
        """
        self.is_half_closed = True
        if self._is_lingering or self.is_tls:
            return False
        return bool(self._backlog) or self.relay.has_whole_request

    # --- it was answered ------------------------------------------------------------------------------------

    @property
    def is_last(self) -> bool:
        """Whether nothing follows on this connection what is being answered."""
        return self._home.is_leaving or (self.is_half_closed and not self._backlog)

    def request_answered(self, *, keep_alive: bool, unread: bool) -> None:
        """The client has its answer: read the next request, or close. ``unread``: of this one, something is."""
        self._has_served = True
        if keep_alive and not self.is_last:
            self.wait(self._home.table.limits.idle_timeout_seconds)
            if self._backlog:
                asyncio.get_running_loop().call_soon(self._next)
        elif unread or self._backlog:
            self._linger()
        else:
            self.close()

    def _next(self) -> None:
        """A request came before the last was answered: now is its time, if the client takes its answers."""
        if self.relay.exchange is None and not self.is_full and self._backlog and not self.transport.is_closing():
            self._read_head(b"")

    def resume_writing(self) -> None:
        """The client reads again (asyncio)."""
        super().resume_writing()
        self._next()

    def cut_off(self, *, by_reset: bool) -> None:
        """End an answer that is not whole, so that the client sees it.

        ``by_reset``: the end of the connection would be taken for the end of the answer.
        """
        if by_reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        elif self.is_full:
            self.transport.abort()
        else:
            self.close()

    def close(self) -> None:
        """Close it after what was written.

        Over TLS both sides say that they close, and that of the client is waited for.
        """
        self.transport.close()
        if self.is_tls:
            self._is_lingering = True
            self._wait_until = self._home.ticker.now + self._home.table.limits.write_timeout_seconds
            self.wait(LINGER_SECONDS)

    def say_last(self, data: bytes) -> None:
        """Write this, and close when the client has seen it."""
        self.transport.write(data)
        self._linger()

    def _linger(self) -> None:
        """Close when the client has seen the answer.

        Were it closed while bytes of the client are unread, the kernel would reset the connection, and the
        client could lose the answer (RFC 9112 9.6).
        """
        if self.is_half_closed or self.is_tls:  # over TLS, what still comes is read until both have closed
            self.close()
            return
        self._is_lingering = True
        self._backlog = b""
        self.let_go(BACKLOG)
        self.wait(LINGER_SECONDS)
        self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone (asyncio)."""
        self._home.clients.remove(self)
        self.relay.client_left()

    # --- it takes too long ----------------------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed."""
        is_idle = self.relay.exchange is None
        if self._is_lingering and self.is_tls:
            self._expire_closing()
        elif (self.is_full or self.relay.sending is not None) and self._client_reads():
            self.wait(self._home.table.limits.write_timeout_seconds)
        elif self._is_lingering or (self.is_full and is_idle):
            self.transport.abort()
        elif not is_idle:
            self.relay.expire()
        elif self._backlog:
            self._reject(408)
        else:
            self.close()

    def _expire_closing(self) -> None:
        """Both have to say that they close: wait while the client takes what was written, and no longer."""
        now = self._home.ticker.now
        if self._client_reads():
            self._wait_until = now + self._home.table.limits.write_timeout_seconds
        if self._in_kernel() and now < self._wait_until:
            self.wait(LINGER_SECONDS)
        else:
            self.transport.abort()

    def _in_kernel(self) -> int:
        """Return how many bytes the kernel has that the client has not taken (tcp(7))."""
        fileno = self.transport.get_extra_info("socket").fileno()
        return int.from_bytes(fcntl.ioctl(fileno, termios.TIOCOUTQ, b"\0\0\0\0"), "little")

    def _client_reads(self) -> bool:
        """Tell whether the client has taken anything since last asked.

        What waits for it is in our buffer and the kernel's. Over TLS some is between these, and nobody says how much.
        """
        if self.is_tls:
            mark = bytes_acknowledged(self.transport.get_extra_info("socket"))
        else:
            mark = self._in_kernel() + self.transport.get_write_buffer_size()
        before, self._mark = self._mark, mark
        return mark != before

    # --- the proxy leaves -----------------------------------------------------------------------------------

    def leave(self, *, patient: bool) -> None:
        """Close if idle; what has just connected, or all if the proxy is ``patient``, may still ask once."""
        if self.relay.exchange is not None or self._is_lingering or (patient and self._has_served):
            return
        if self._has_served and not self._backlog:
            self.close()
        else:
            self.deadline = min(self.deadline, self._home.ticker.now + LINGER_SECONDS)

    def make_way(self) -> None:
        """Close it at once: others need its descriptor. (Over TLS the client's part in it would be waited for.)"""
        if self.is_tls:
            self.transport.abort()
        else:
            self.transport.close()

    def give_up(self) -> None:
        """The proxy's own deadline has passed."""
        if not self.relay.end_tunnel():
            self.relay.client_left()
            self.transport.abort()
