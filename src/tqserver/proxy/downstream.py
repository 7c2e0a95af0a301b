"""A client's connection: parses requests, answers them in order.

It carries one :class:`Exchange` at a time; what a client pipelines behind it waits, unread beyond what has come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tqserver.model.routing import normalise
from tqserver.proxy import admission, balancer, connections, flow
from tqserver.proxy.admission import Refusal
from tqserver.proxy.exchange import KEPT_BODY_BYTES, AfterLoss, Exchange
from tqserver.proxy.replies import reply
from tqserver.proxy.table import Row, WorkerState
from tqserver.proxy.upstream import Upstream
from tqserver.wire.headers import Fields
from tqserver.wire.http1 import LAST_CHUNK, ParseError, UpgradeAt, request_parser

if TYPE_CHECKING:
    from tqserver.proxy.server import ProxyServer

WEBSOCKET_RESTART = b"\x88\x02\x03\xf4"  # a close frame with status 1012 (RFC 6455 7.4.1, IANA)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Downstream(asyncio.Protocol):
    """One connection from a client."""

    def __init__(self, proxy: ProxyServer) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._valve: flow.Valve | None = None
        self._parser = request_parser(self)
        self._receiving: Exchange | None = None
        self._serving: Exchange | None = None
        self._queued: list[Exchange] = []
        self._head_bytes = 0
        self._row: Row | None = None
        self._worker: WorkerState | None = None
        self._upstream: Upstream | None = None
        self._out: list[bytes] = []
        self._early: list[bytes] = []  # what came behind an upgrade request, before its answer
        self._switching = False
        self._tunnel = False
        self._is_websocket = False
        self._forwarded = b""
        self._trusted = False
        self._touched = 0.0
        self._write_paused = False
        self.is_waiting = False

    # --- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._valve = flow.Valve(self._transport)
        flow.limit(self._transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        self._trusted = self._proxy.is_trusted(address)
        self._forwarded = b"x-forwarded-for: %b\r\nx-forwarded-proto: http\r\n" % address.encode()
        self._touched = self._proxy.now()
        self._proxy.clients.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._touched = self._proxy.now()
        if self._tunnel:
            if self._upstream is not None:
                self._upstream.write(data)
            return
        if self._switching:
            self._early.append(data)
            self.pause("switching")
            return
        if self._receiving is None or not self._receiving.method:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except UpgradeAt as upgrade:
            self._switching = True
            if rest := data[upgrade.args[0] :]:
                self._early.append(rest)
        except ParseError:
            self._refuse(admission.MALFORMED)
            return
        if self._head_bytes > self._proxy.limits.max_header_bytes + len(data):
            self._refuse(admission.HEAD_TOO_LARGE)

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for its answer (a half-closed connection)."""
        if self._serving is not None and not self._tunnel:
            self._serving.keep_alive = False
            return self._serving.received
        return False

    def pause_writing(self) -> None:
        """The client does not read: stop reading the worker."""
        self._write_paused = True
        if self._upstream is not None and self._upstream.valve is not None:
            self._upstream.valve.close("client")

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_paused = False
        self._touched = self._proxy.now()
        if self._upstream is not None and self._upstream.valve is not None:
            self._upstream.valve.open("client")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for the worker's answer any more."""
        self._proxy.clients.discard(self)
        self._proxy.waiting.discard(self)
        self._proxy.client_left()
        self.is_waiting = False
        self._transport = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._release()

    def pause(self, reason: str) -> None:
        """Stop reading the client."""
        if self._valve is not None:
            self._valve.close(reason)

    def resume(self, reason: str) -> None:
        """Read the client again."""
        if self._valve is not None:
            self._valve.open(reason)

    # --- llhttp -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        exchange = self._receiving = Exchange()
        if self._serving is None:
            self._serving = exchange
        else:
            self._queued.append(exchange)
            self.pause("pipeline")

    def on_url(self, target: bytes) -> None:
        """Part of the target."""
        if self._receiving is not None:
            self._receiving.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        if self._receiving is not None:
            self._receiving.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        exchange, parser = self._receiving, self._parser
        if exchange is None:
            return
        self._head_bytes = 0
        exchange.head_received(
            parser.get_method(),
            parser.get_http_version(),
            parser.should_keep_alive(),
            parser.should_upgrade(),
            self._proxy.new_request_id(),
        )
        if exchange is self._serving:
            self._begin(exchange)

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        exchange = self._receiving
        if exchange is None:
            return
        framed = exchange.body_received(body)
        limit = self._proxy.limits.max_body
        if limit and exchange.body_bytes > limit:
            self._refuse(admission.TOO_LARGE)
        elif exchange is self._serving and exchange.sent_upstream and self._upstream is not None:
            self._upstream.write(framed)
        elif exchange.body_bytes > KEPT_BODY_BYTES:
            self.pause("body")  # until a worker has been chosen

    def on_message_complete(self) -> None:
        """The request is complete."""
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            return
        exchange.received = True
        begun = exchange is self._serving and exchange.sent_upstream
        if begun and exchange.is_chunked_up and self._upstream is not None:
            self._upstream.write(LAST_CHUNK)

    # --- towards a worker ---------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> None:
        refusal = admission.refuse_head(exchange.version, exchange.target, exchange.fields, self._proxy.limits.max_body)
        if refusal is not None:
            self._refuse(refusal)
            return
        try:
            path = normalise(admission.path_of(exchange.target).decode("utf-8"))
        except UnicodeDecodeError:
            path = None
        if path is None:
            self._refuse(Refusal(400, "the path is not a valid one"))
            return
        exchange.path = path
        self.dispatch()

    def dispatch(self) -> None:
        """Send the exchange to a worker, or let it wait for one."""
        exchange = self._serving
        if exchange is None:
            return
        match = self._proxy.table.routes.match(exchange.path)
        if match is None:
            self._refuse(Refusal(404, "no page answers this path"))
            return
        row = self._row = match.value
        row.turn += 1
        worker = balancer.choose(row.workers, exchange.tried, row.turn)
        if worker is None:
            self._wait(row)
            return
        self._stop_waiting()
        self._worker = worker
        worker.in_flight += 1
        idle = connections.take_idle(worker)
        if idle is not None:
            self._send(idle)
        else:
            self._proxy.start(self._connect(worker, exchange))

    async def _connect(self, worker: WorkerState, exchange: Exchange) -> None:
        try:
            connection = await connections.connect(worker)
        except OSError as error:
            if self._serving is exchange and self._worker is worker:
                self._proxy.refused(worker.number, str(error))
                exchange.tried.add(worker.number)
                self._after_loss(exchange.lost(written=False), "no worker accepts connections")
            return
        if self._serving is exchange and self._worker is worker and self._transport is not None:
            self._send(connection)
        else:
            connection.close()

    def _send(self, connection: Upstream) -> None:
        exchange = self._serving
        assert exchange is not None
        self._upstream = connection
        connection.serve(self, is_head=exchange.method == b"HEAD")
        if self._write_paused and connection.valve is not None:
            connection.valve.close("client")
        data = exchange.upstream_head(self._forwarded, self._trusted) + exchange.kept_body()
        if exchange.received and exchange.is_chunked_up:
            data += LAST_CHUNK
        elif not exchange.received and not exchange.sent_upstream and exchange.expects_continue():
            self._write(CONTINUE)
        connection.write(data)
        exchange.sent_upstream = True
        self._touched = self._proxy.now()
        self.resume("body")

    def _wait(self, row: Row) -> None:
        exchange = self._serving
        assert exchange is not None
        if row.entry.failure is not None and not row.workers:
            self._fail(503, self._proxy.shown(row.entry.failure))
        elif not self.is_waiting:
            if len(self._proxy.waiting) >= row.entry.limits.queue:
                self._fail(503, "too many requests wait for this page")
                return
            self.is_waiting = True
            self._touched = self._proxy.now()
            self._proxy.waiting.add(self)
            self._proxy.demand(row.entry.page)

    def _stop_waiting(self) -> None:
        if self.is_waiting:
            self.is_waiting = False
            self._proxy.waiting.discard(self)

    # --- from a worker ------------------------------------------------------------------------------------

    def upstream_head(self, status: int, reason: bytes, fields: Fields) -> None:
        """The worker's response begins."""
        if self._serving is not None:
            self._out.append(self._serving.response_head(status, reason, fields, leaving=self._proxy.is_leaving))

    def upstream_interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """The worker sent an interim response (103)."""
        if self._serving is not None and self._serving.version == "1.1":
            lines = b"".join(b"%b: %b\r\n" % field for field in fields)
            self._out.append(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines))

    def upstream_body(self, body: bytes) -> None:
        """Part of the worker's response."""
        if self._serving is not None:
            self._out.append(self._serving.framed(body))

    def flush(self) -> None:
        """Write what has been gathered, at once."""
        if self._out:
            self._touched = self._proxy.now()
            out, self._out = self._out, []
            self._write(out[0] if len(out) == 1 else b"".join(out))

    def upstream_complete(self, connection: Upstream) -> None:
        """The worker's response is complete."""
        exchange = self._serving
        if exchange is None:
            return
        if exchange.out_chunked:
            self._write(LAST_CHUNK)
        self._upstream = None
        if exchange.received:
            connections.keep(connection, self._proxy.now())
        else:
            connection.close()  # the rest of the request is still on its way there
        self._release()
        self._finish(exchange.finished())

    def upstream_lost(self, connection: Upstream, reason: str) -> None:
        """The worker's connection ended before its response did."""
        exchange = self._serving
        self._upstream = None
        if exchange is None:
            return
        self._out.clear()
        worker = connection.worker
        if connection.served <= 1:  # not merely an idle connection that was closed as it was used
            exchange.tried.add(worker.number)
            self._proxy.refused(worker.number, reason)
        self._after_loss(exchange.lost(written=True), f"the worker failed: {reason}")

    def _after_loss(self, action: AfterLoss, message: str) -> None:
        self._release()
        if action is AfterLoss.RETRY:
            self.dispatch()
        elif action is AfterLoss.REPLY:
            self._fail(502, message)
        else:
            self.abort()

    def _release(self) -> None:
        """The worker has one less in flight here."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.in_flight -= 1
            self._proxy.table.rest(worker)

    # --- tunnels ------------------------------------------------------------------------------------------

    def upstream_switches(self, reason: bytes, fields: Fields) -> None:
        """The worker accepted the upgrade: both sides are a tunnel from now on."""
        exchange = self._serving
        if exchange is None or self._upstream is None:
            return
        self._out.append(exchange.switching_head(reason, fields))
        self._tunnel = True
        self._is_websocket = any(name == b"upgrade" and value.lower() == b"websocket" for name, value in fields)
        if self._early:
            self._upstream.write(b"".join(self._early))
            self._early.clear()
        self.resume("switching")

    def tunnelled(self, data: bytes) -> None:
        """Bytes from the worker's end of the tunnel."""
        self._touched = self._proxy.now()
        if data:
            self._write(data)

    def tunnel_ended(self) -> None:
        """The worker closed its end."""
        self._upstream = None
        self._release()
        if self._transport is not None:
            self._transport.close()

    # --- ends ---------------------------------------------------------------------------------------------

    def _finish(self, close: bool) -> None:
        """The exchange is over: the next in line, or none."""
        self._serving = None
        if self._transport is None:
            return
        if close or self._switching or self._proxy.is_leaving:
            self._transport.close()
            return
        if self._queued:
            self._serving = self._queued.pop(0)
            if not self._queued:
                self.resume("pipeline")
            if self._serving.method:
                self._begin(self._serving)

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(refusal.status, refusal.message, close=refusal.close)

    def _fail(self, status: int, message: str) -> None:
        self._proxy.failures += 1
        self._answer(status, message, close=False)

    def _answer(self, status: int, message: str, *, close: bool) -> None:
        exchange = self._serving
        if exchange is not None and exchange.response_begun:
            self.abort()
            return
        self._stop_waiting()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._release()
        unread = exchange is None or not exchange.received or not exchange.keep_alive
        has_body = exchange is not None and (exchange.is_chunked_up or exchange.body_bytes > 0)
        ends = close or self._proxy.is_leaving or (unread and (has_body or exchange is None or not _is_plain(exchange)))
        failure = self._row.entry.failure if self._row is not None and status == 503 else None
        self._write(
            reply(
                exchange,
                status,
                message,
                close=ends,
                dev=self._proxy.table.snapshot.mode == "dev",
                failure=failure,
            )
        )
        self._finish(ends)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Cut the connection: a response that is not complete must not look so."""
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """The drain deadline of its worker has passed."""
        if self._tunnel and self._transport is not None:
            if self._is_websocket:
                self._write(WEBSOCKET_RESTART)
            self._transport.close()
        elif self._serving is not None and self._serving.response_begun:
            self.abort()
        else:
            self._fail(503, "the worker was replaced before it answered")

    @property
    def worker_number(self) -> int:
        """The worker that it has something in flight for, 0 if none."""
        return self._worker.number if self._worker is not None else 0

    def leave(self) -> None:
        """The proxy leaves: close now if nothing is in flight."""
        if self._serving is None and self._transport is not None:
            self._transport.close()

    def check(self, now: float) -> None:
        """Called about once a second: is somebody silent for too long?"""
        silent, limits, exchange = now - self._touched, self._proxy.limits, self._serving
        if self._tunnel:
            return
        if self._write_paused:
            if silent > limits.write_timeout_seconds:
                self.abort()
        elif exchange is None:
            if silent > limits.idle_timeout_seconds and self._transport is not None:
                self._transport.close()
        elif not exchange.method:
            if silent > limits.read_timeout_seconds:
                self._answer(408, "the request head did not come", close=True)
        elif self._row is not None and self.is_waiting:
            if silent > self._row.entry.limits.start_timeout_seconds:
                self._fail(503, "no worker became ready in time")
        elif not exchange.received and self._valve is not None and self._valve.is_open:
            if silent > limits.read_timeout_seconds:
                self._answer(408, "the request body did not come", close=True)
        elif self._row is not None and silent > self._row.entry.limits.write_timeout_seconds:
            self._fail(504, "the worker did not answer in time")


def _is_plain(exchange: Exchange) -> bool:
    """A request without a body, whose connection goes on after its answer."""
    has_body = any(name == b"content-length" and value != b"0" for name, value in exchange.fields)
    return exchange.keep_alive and not has_body and not exchange.is_chunked_up
