"""A client's connection: requests are read from it, one at a time, and their answers written to it.

The exchange decides what the bytes are; here they are read and written, and what it decides is done. The
methods stand in the order in which things happen to a request.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import termios
from typing import TYPE_CHECKING

from tqserver.proxy import replies
from tqserver.proxy.admission import refused_body, refused_head, refused_partial_head
from tqserver.proxy.exchange import CONTINUE, Exchange, Loss, Phase, Then, Verdict
from tqserver.proxy.flow import BACKLOG, HIGH_WATER_BYTES, OPPOSITE_FULL, Flow
from tqserver.proxy.forwarding import Peer
from tqserver.proxy.table import Route, Worker
from tqserver.proxy.tunnel import CLOSE_SERVICE_RESTART, FrameBoundary
from tqserver.proxy.upstream import Upstream
from tqserver.wire.http1 import (
    BadMessage,
    ChunkedBody,
    LengthBody,
    RequestReader,
    ResponseHead,
    head_end,
)
from tqserver.wire.messages import Failure

if TYPE_CHECKING:
    from tqserver.proxy.home import Home

LINGER_SECONDS = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Downstream(Flow):
    """One connection of a client.

    ``exchange`` and ``route`` are set while a request is being answered, ``worker`` while it is in flight for
    one, ``upstream`` while it has a connection. ``deadline`` bounds whatever is waited for.
    """

    __slots__ = (
        "_backlog", "_body", "_frames", "_has_served", "_home", "_is_lingering", "_is_waiting", "_peer",
        "_reader", "_searched", "_unsent_bytes", "deadline", "exchange", "route", "upstream", "worker",
    )  # fmt: skip

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._backlog = b""  # read, and not used yet
        self._reader = RequestReader()
        self._searched = 0  # bytes of the backlog that hold no end of a head
        self._body: LengthBody | ChunkedBody | None = None  # what is still to come of the request
        self._frames: FrameBoundary | None = None
        self._has_served = False
        self._is_lingering = False
        self._is_waiting = False
        self._unsent_bytes = 0
        self.deadline = math.inf
        self.exchange: Exchange | None = None
        self.route: Route | None = None
        self.worker: Worker | None = None
        self.upstream: Upstream | None = None

    def opposite(self) -> Flow | None:
        """What is written to the client is read from the worker."""
        return self.upstream

    # --- a request comes ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected (asyncio)."""
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        self._peer = Peer(address[0] if address else "", b"http", self._home.table.trusted)
        self._home.clients.add(self)
        self._wait(self._home.table.limits.idle_timeout_seconds)

    def _wait(self, seconds: float) -> None:
        self.deadline = self._home.ticker.now + seconds

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio)."""
        if self._is_lingering:
            return
        if self.exchange is None and not self.is_full:
            self._read_head(data)
        elif self.upstream is not None and self._body is not None:
            self._forward(self.upstream, self._body, data)
        elif self.upstream is not None and self.exchange is not None and self.exchange.phase is Phase.TUNNEL:
            self.upstream.transport.write(data)
        else:
            self._put_by(data)

    def _put_by(self, data: bytes) -> None:
        """Too early for these bytes: no worker is chosen yet, or an earlier request is being answered."""
        self._backlog += data
        if len(self._backlog) >= HIGH_WATER_BYTES:
            self.hold(BACKLOG)

    def _take_backlog(self) -> bytes:
        backlog, self._backlog = self._backlog, b""
        self.let_go(BACKLOG)
        return backlog

    def _read_head(self, received: bytes) -> None:
        data = self._backlog + received if self._backlog else received
        if data[0] in b"\r\n":  # RFC 9112 2.2: an empty line before a request is ignored
            data = data.lstrip(b"\r\n")
        try:
            end = head_end(data, self._searched)
            if not end:
                self._wait_for_head(data)
                return
            request = self._reader.read(data[:end])
        except BadMessage as error:
            self._reject(error.status, str(error))
            return
        self._backlog = data[end:]
        self._searched = 0
        if self._reasons and len(self._backlog) < HIGH_WATER_BYTES:
            self.let_go(BACKLOG)
        home = self._home
        self.exchange = exchange = Exchange(
            request, request.request_id or home.next_request_id(), self._peer.fields(request)
        )
        refused = refused_head(request, end, home.table.limits)
        if refused is not None:
            self.reply(refused)
            return
        if not exchange.request_done:
            self._body = exchange.request_body_reader()
        self.dispatch()

    def _wait_for_head(self, data: bytes) -> None:
        if data and not self._searched:  # the head as a whole is bounded, not the silence within it
            self._wait(self._home.table.limits.read_timeout_seconds)
        self._backlog = data
        self._searched = len(data)
        self.let_go(BACKLOG)
        refused = refused_partial_head(data, self._home.table.limits)
        if refused is not None:
            self._reject(refused)

    def _reject(self, status: int, detail: str = "") -> None:
        """What came is not a request: answer, and read nothing more."""
        reply = replies.Reply(status, self._home.next_request_id(), keep_alive=False, detail=detail)
        self.transport.write(self._home.render(reply, None))
        self._linger()

    def dispatch(self) -> None:
        """Find the page that answers and have a worker chosen: at first, and again after each snapshot."""
        assert self.exchange is not None
        try:
            route = self._home.table.find(self.exchange.request.path)
        except BadMessage as error:
            self.reply(400, detail=str(error))
            return
        if route is None or self.route is None or route.page is not self.route.page:
            self._enter(route)
        self.route = route
        if route is None:
            self.reply(404)
            return
        if self._body is not None:
            announced = self.exchange.request.content_length
            refused = refused_body(announced, self._home.table.limits, route.limits)
            if refused is not None:
                self.reply(refused)
                return
        self._home.dispatcher.dispatch(self, route, self.exchange)

    def _enter(self, route: Route | None) -> None:
        """This page answers."""
        if self.route is not None:
            self._leave_page()
        if route is not None:
            route.page.requests += 1
            route.page.in_flight += 1

    def _leave_page(self) -> None:
        if self.route is not None:
            page = self.route.page
            page.in_flight -= 1
            if page.waiting:
                self._home.dispatcher.stop_waiting(self, page)
            self.route = None

    # --- a worker gets it -----------------------------------------------------------------------------------

    def wait_for_worker(self, route: Route) -> None:
        """No connection is at hand: it is waited for, however many snapshots and refusals that takes."""
        if not self._is_waiting:
            self._is_waiting = True
            self._wait(route.limits.start_timeout_seconds)

    def still_wants(self, exchange: Exchange, worker: Worker) -> bool:
        """Tell whether a connection to ``worker`` is still waited for, and for this exchange."""
        return self.exchange is exchange and self.worker is worker and exchange.phase is Phase.ADMITTED

    def connection_refused(self) -> None:
        """The worker could not be reached; nothing was sent."""
        self._part()
        self.dispatch()

    def send_to(self, upstream: Upstream) -> None:
        """This is the connection: send the request."""
        exchange, route = self.exchange, self.route
        assert exchange is not None and route is not None
        self.upstream = upstream
        self._is_waiting = False
        upstream.take(self)
        upstream.transport.write(exchange.send())
        self._wait(route.limits.write_timeout_seconds)
        if self._body is not None:
            self._begin_body(upstream, self._body, exchange, route)

    def _begin_body(self, upstream: Upstream, body: LengthBody | ChunkedBody, exchange: Exchange, route: Route) -> None:
        """Only now is the body read: until here, another worker could have been chosen (pitfall 23)."""
        self._wait(route.limits.read_timeout_seconds)
        if self._backlog:
            self._forward(upstream, body, self._take_backlog())
        elif exchange.request.expect:
            exchange.request.expect = b""
            self.transport.write(CONTINUE)

    def _forward(self, upstream: Upstream, body: LengthBody | ChunkedBody, data: bytes) -> None:
        """Some of the request's body came."""
        exchange, route = self.exchange, self.route
        assert exchange is not None and route is not None
        try:
            content = body.feed(data)
        except BadMessage as error:
            self._obey(exchange.request_refused(400), str(error))
            return
        framed = exchange.request_body(content) if content else b""
        refused = refused_body(exchange.body_bytes, self._home.table.limits, route.limits)
        if refused is not None:
            self._obey(exchange.request_refused(refused), "the request's body is too large")
            return
        self._wait(route.limits.read_timeout_seconds)
        if body.done:
            self._body = None
            self._backlog = body.rest
            framed += exchange.request_end()
            self._wait(route.limits.write_timeout_seconds)
        if framed:
            upstream.transport.write(framed)

    # --- it answers -----------------------------------------------------------------------------------------

    def interim(self, head: ResponseHead) -> None:
        """A 1xx came."""
        assert self.exchange is not None
        self.transport.write(self.exchange.interim(head))
        self.heard_something()

    def heard_something(self) -> None:
        """The worker is not silent."""
        assert self.route is not None
        self._wait(self.route.limits.write_timeout_seconds)

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """A 101 and what followed it: this is a tunnel now. Raises :class:`BadMessage` if not asked for."""
        exchange, upstream = self.exchange, self.upstream
        assert exchange is not None and upstream is not None
        self.transport.write(exchange.switch(head) + rest)
        self.deadline = math.inf  # its ends watch over it; of a client that vanished, TCP keep-alive tells
        if exchange.request.upgrade.lower() == b"websocket":
            self._frames = FrameBoundary()
            self._frames.feed(rest)
        if self._backlog:
            upstream.transport.write(self._take_backlog())

    def answered(self, head: ResponseHead, rest: bytes) -> None:
        """The head of the answer and what followed it. A small answer is whole here, and written at once."""
        exchange = self.exchange
        assert exchange is not None
        if self.worker is not None:
            self.worker.silent = 0
        if self._home.is_leaving:
            exchange.keep_alive = False
        out = exchange.response_head(head, self._home.ticker.date)
        body = exchange.answer_body
        if rest:
            out += exchange.response_body(body.feed(rest))
        if body.done:
            self._finish(exchange, out)
        else:
            self.transport.write(out)
            self.heard_something()

    def answer_body(self, received: bytes) -> None:
        """More of the answer's body, or of what is no longer HTTP. Raises :class:`BadMessage`."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.phase is Phase.TUNNEL:
            if self._frames is not None:
                self._frames.feed(received)
            self.transport.write(received)
            return
        out = exchange.response_body(exchange.answer_body.feed(received))
        if exchange.answer_body.done:
            self._finish(exchange, out)
        else:
            self.transport.write(out)
            self.heard_something()

    def _finish(self, exchange: Exchange, out: bytes) -> None:
        """The answer is whole."""
        self.transport.write(out + exchange.response_end())
        upstream = self.upstream
        assert upstream is not None
        self._part()
        if exchange.worker_keeps_alive and exchange.request_done and not exchange.answer_body.rest:
            upstream.release()
            self._home.dispatcher.keep(upstream)
        else:
            upstream.discard()
        self._end(exchange)

    def _part(self) -> None:
        """The request is in flight for no worker now."""
        self.upstream = None
        if self._reasons:
            self.let_go(OPPOSITE_FULL)
        if self.worker is not None:
            self._home.dispatcher.part(self, self.worker)
            self.worker = None

    def _end(self, exchange: Exchange) -> None:
        """The client has its answer: read the next request, or close."""
        unread = self._body is not None
        self._leave_page()
        self.exchange = None
        self._body = None
        self._is_waiting = False
        self._has_served = True
        if exchange.keep_alive and not self._home.is_leaving:
            self._wait(self._home.table.limits.idle_timeout_seconds)
            if self._backlog:
                asyncio.get_running_loop().call_soon(self._next)
        elif unread or self._backlog:
            self._linger()
        else:
            self.transport.close()

    def _next(self) -> None:
        """A request came before the last was answered: now is its time, if the client takes its answers."""
        if self.exchange is None and not self.is_full and self._backlog and not self.transport.is_closing():
            self._read_head(b"")

    def resume_writing(self) -> None:
        """The client reads again (asyncio)."""
        super().resume_writing()
        self._next()

    # --- it does not ----------------------------------------------------------------------------------------

    def upstream_lost(self, upstream: Upstream, loss: Loss, *, clean: bool, reason: str) -> None:
        """The worker's connection is lost, and the answer was not known to be whole."""
        exchange, worker = self.exchange, self.worker
        assert exchange is not None and worker is not None
        if exchange.phase is Phase.SENT and not upstream.heard and loss is Loss.BROKEN:
            self._home.dispatcher.complain(worker, reason)
        self._part()
        self._obey(exchange.upstream_lost(loss, heard=upstream.heard, clean=clean), reason)

    def _obey(self, verdict: Verdict, reason: str) -> None:
        exchange = self.exchange
        assert exchange is not None
        match verdict.then:
            case Then.RETRY:
                self._is_waiting = False
                self.dispatch()
            case Then.REPLY:
                self.reply(verdict.status, detail=reason)
            case Then.FINISH:
                was_tunnel = exchange.phase is Phase.TUNNEL
                self.transport.write(b"" if was_tunnel else exchange.response_end())
                self._end(exchange)
            case Then.CUT:
                self._cut(exchange, reason)

    def reply(self, status: int, *, detail: str = "", failure: Failure | None = None) -> None:
        """Answer in the worker's place."""
        exchange = self.exchange
        assert exchange is not None
        self._drop_upstream()
        if self._home.is_leaving:
            exchange.keep_alive = False
        reply = replies.Reply(status, exchange.request_id, exchange.reply(), detail, failure)
        if status >= 500 and self.route is not None:
            self.route.page.failures += 1
            self._home.note_failure(self.route.page.name, reply, failure.message if failure else detail)
        self.transport.write(self._home.render(reply, exchange.request))
        self._end(exchange)

    def _drop_upstream(self) -> None:
        upstream = self.upstream
        self._part()
        if upstream is not None:
            upstream.discard()

    def _cut(self, exchange: Exchange, reason: str) -> None:
        """End an answer that is not whole, so that the client sees it."""
        self._home.note_cut(self.route.page.name if self.route else "", exchange.request_id, reason)
        self._drop_upstream()
        self._leave_page()
        self.exchange = None
        if exchange.ends_with_connection:  # only a reset tells such a body from a whole one
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        elif self.is_full:
            self.transport.abort()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Close when the client has seen the answer.

        Were it closed while bytes of the client are unread, the kernel would reset the connection, and the
        client could lose the answer (RFC 9112 9.6).
        """
        self._is_lingering = True
        self._backlog = b""
        self.let_go(BACKLOG)
        self._wait(LINGER_SECONDS)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone (asyncio)."""
        self._home.clients.discard(self)
        exchange, upstream = self.exchange, self.upstream
        if exchange is None:
            return
        self._part()
        self._leave_page()
        self.exchange = None
        if upstream is not None:
            if exchange.phase is Phase.TUNNEL:
                upstream.close()
            else:
                upstream.discard()

    # --- it takes too long ----------------------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed."""
        exchange = self.exchange
        if self.is_full and self._client_reads():
            self._wait(self._home.table.limits.write_timeout_seconds)
        elif self._is_lingering or (self.is_full and exchange is None):
            self.transport.abort()
        elif exchange is None:
            if self._backlog:
                self._reject(408)
            else:
                self.transport.close()
        else:
            awaited = self._body is not None and not self.is_held
            if self.worker is not None and self.upstream is not None and not (awaited or self.upstream.heard):
                self.worker.silent += 1
            self._obey(exchange.fell_silent(client_awaited=awaited), "nothing came in time")

    def _client_reads(self) -> bool:
        """Tell whether less waits for the client than when last asked, in our buffer and the kernel's."""
        fileno = self.transport.get_extra_info("socket").fileno()
        in_kernel = int.from_bytes(fcntl.ioctl(fileno, termios.TIOCOUTQ, b"\0\0\0\0"), "little")
        before, self._unsent_bytes = self._unsent_bytes, in_kernel + self.transport.get_write_buffer_size()
        return self._unsent_bytes != before

    def cut(self) -> None:
        """The worker's drain deadline has passed."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.phase is Phase.TUNNEL:
            self._end_tunnel(exchange)
            return
        upstream = self.upstream
        heard = upstream is not None and upstream.heard
        self._drop_upstream()
        self._obey(exchange.upstream_lost(Loss.BROKEN, heard=heard, clean=False), "its worker was stopped")

    def _end_tunnel(self, exchange: Exchange) -> None:
        """Say so in between two frames; within one, or in another protocol, the end must speak for itself."""
        self._drop_upstream()
        self._leave_page()
        self.exchange = None
        if self._frames is not None and self._frames.is_between_frames:
            self.transport.write(CLOSE_SERVICE_RESTART)
            self._linger()
        else:
            self.transport.close()

    def leave(self, *, patient: bool) -> None:
        """The proxy leaves: close if idle; what has just connected, or all if it is patient, may still ask once."""
        if self.exchange is not None or self._is_lingering or (patient and self._has_served):
            return
        if self._has_served and not self._backlog:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, self._home.ticker.now + LINGER_SECONDS)

    def give_up(self) -> None:
        """The proxy's own deadline has passed."""
        if self.exchange is not None and self.exchange.phase is Phase.TUNNEL:
            self._end_tunnel(self.exchange)
        else:
            self.transport.abort()
