"""A request on its way: from its client's connection to a worker's, and its answer back.

The exchange decides what the bytes are and what becomes of them; the dispatcher chooses the worker; here what
they decide is done. The methods stand in the order in which things happen to a request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tqserver.host import clock
from tqserver.proxy import files, overlay, replies
from tqserver.proxy.access_line import NOBODY, Served
from tqserver.proxy.admission import refused_body
from tqserver.proxy.exchange import CONTINUE, Exchange, Loss, Phase, Then, Verdict
from tqserver.proxy.files import PublicFile
from tqserver.proxy.flow import OPPOSITE_FULL
from tqserver.proxy.forwarding import secure_url
from tqserver.proxy.sending import Sending
from tqserver.proxy.table import Route, Worker
from tqserver.proxy.tunnel import CLOSE_SERVICE_RESTART, FrameBoundary
from tqserver.proxy.upstream import Upstream
from tqserver.wire.bodies import ChunkedBody, LengthBody
from tqserver.wire.headers import is_event_stream, value_of
from tqserver.wire.http1 import BadMessage, ResponseHead
from tqserver.wire.messages import Failure

if TYPE_CHECKING:
    from tqserver.proxy.access_log import AccessLog
    from tqserver.proxy.downstream import Downstream
    from tqserver.proxy.home import Home


class Relay:
    """Carries the requests of one client's connection, one at a time.

    ``exchange`` and ``route`` are set while a request is being answered, ``worker`` while it is in flight for
    one, ``upstream`` while it has a connection; ``sending`` while a file answers and no worker.
    """

    __slots__ = (
        "_begun", "_body", "_frames", "_home", "_is_counted", "_is_waiting", "_served_by", "client", "exchange",
        "route", "sending", "upstream", "worker",
    )  # fmt: skip

    def __init__(self, client: Downstream, home: Home) -> None:
        self._begun = 0.0  # when the head was there
        self._is_counted = False
        self._served_by = 0  # the worker that had the request last
        self._home = home
        self._body: LengthBody | ChunkedBody | None = None  # what is still to come of the request
        self._frames: FrameBoundary | None = None
        self._is_waiting = False
        self.client = client
        self.exchange: Exchange | None = None
        self.route: Route | None = None
        self.sending: Sending | None = None
        self.worker: Worker | None = None
        self.upstream: Upstream | None = None

    # --- a request comes ------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange, refused: int | None) -> None:
        """Take on a request, or answer it with the status that its head is ``refused`` with."""
        self.exchange = exchange
        self._begun = clock.monotonic()
        self._is_counted = False
        self._served_by = 0
        if not exchange.request_done:
            self._body = exchange.request_body_reader()
        if refused is not None:
            self.reply(refused)
        elif self.client.redirects_to:
            self._redirect(exchange)
        else:
            self.dispatch()

    def _redirect(self, exchange: Exchange) -> None:
        """Nothing is served without TLS here: say where it is."""
        location = secure_url(exchange.request, self.client.redirects_to)
        if location is None:
            self.reply(400, detail="without Host nobody knows where to redirect to")
        else:
            self.reply(308, fields=b"\r\nLocation: " + location)

    def dispatch(self) -> None:
        """Find the page that answers; a file of it does, or a worker is chosen: at first, and after each snapshot."""
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
        if (failure := route.failure_beside) is not None and self._is_asked_about(failure):
            self.reply(304)
            return
        if self._body is not None:
            announced = self.exchange.request.content_length
            refused = refused_body(announced, self._home.table.limits, route.limits)
            if refused is not None:
                self.reply(refused)
                return
        if not self._answer_by_file(route, self.exchange):
            self._home.dispatcher.dispatch(self, route, self.exchange)

    def _is_asked_about(self, failure: Failure) -> bool:
        assert self.exchange is not None
        request = self.exchange.request
        return overlay.still_shows(request, failure) and self._home.table.confides_in(request)

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

    # --- a file of the page answers -------------------------------------------------------------------------

    def _answer_by_file(self, route: Route, exchange: Exchange) -> bool:
        """Tell whether the request is for a file of the page, which no worker is asked for."""
        if route.public is None:
            return False
        try:
            file = files.find(route.public, exchange.request)
        except OSError as error:
            self.reply(500, detail=f"{route.public.path.decode(errors='replace')}: {error.strerror}")
            return True
        if file is not None:
            self._send_file(file, exchange)
        return file is not None

    def _send_file(self, file: PublicFile, exchange: Exchange) -> None:
        """Answer as a worker would: where connections end and how bodies do is the exchange's to say."""
        if self.client.is_last:
            exchange.keep_alive = False
        self.sending = Sending(file, self, self.client.transport)
        fields = self.client.fields
        self.sending.begin(exchange.response_head(file.answer.head, self._home.ticker.date, fields=fields))

    def file_goes_on(self, count: int) -> None:
        """So many more bytes of a file are on their way."""
        assert self.exchange is not None
        self.exchange.sent_bytes += count
        self.heard_something()

    def file_sent(self) -> None:
        """The client has all that it asked for of a file."""
        exchange = self.exchange
        assert exchange is not None
        exchange.response_end()  # which is nothing, behind a body of a known length
        self._end(exchange)

    def file_failed(self, reason: str) -> None:
        """The rest of a file will not come."""
        assert self.exchange is not None
        self._cut_off(self.exchange, reason)

    # --- a worker gets it -----------------------------------------------------------------------------------

    def wait_for_worker(self, route: Route) -> None:
        """No connection is at hand: it is waited for, however many snapshots and refusals that takes."""
        if not self._is_waiting:
            self._is_waiting = True
            self.client.wait(route.limits.start_timeout_seconds)

    def still_wants(self, exchange: Exchange, worker: Worker) -> bool:
        """Tell whether a connection to ``worker`` is still waited for, and for this exchange."""
        return self.exchange is exchange and self.worker is worker and exchange.phase is Phase.ADMITTED

    def forgive(self) -> bool:
        """While it waits: let workers that failed it be tried again; tell whether there are any."""
        return self.exchange is not None and self.exchange.forgive()

    def connection_refused(self) -> None:
        """The worker could not be reached; nothing was sent."""
        self._part()
        self.dispatch()

    def send_to(self, upstream: Upstream) -> None:
        """This is the connection: send the request."""
        exchange, route = self.exchange, self.route
        assert exchange is not None and route is not None
        self.upstream = upstream
        self._served_by = upstream.worker.number
        self._is_waiting = False
        upstream.take(self)
        upstream.transport.write(exchange.send())
        self.client.wait(route.limits.write_timeout_seconds)
        if self._body is not None:
            self._begin_body(upstream, self._body, exchange, route)

    def _begin_body(self, upstream: Upstream, body: LengthBody | ChunkedBody, exchange: Exchange, route: Route) -> None:
        """Only now is the body read: until here, another worker could have been chosen (pitfall 23)."""
        client = self.client
        client.wait(route.limits.read_timeout_seconds)
        if backlog := client.take_backlog():
            self._forward(upstream, body, backlog)
        elif exchange.awaits_continue:
            exchange.awaits_continue = False
            client.transport.write(CONTINUE)
        if client.is_half_closed and self._body is not None:  # the rest of it will not come
            client.transport.abort()

    def receive(self, data: bytes) -> bool:
        """Bytes came behind the head: pass them on, or tell that it is too early for them."""
        exchange, upstream = self.exchange, self.upstream
        if exchange is None or upstream is None:
            return False
        if self._body is not None:
            self._forward(upstream, self._body, data)
        elif exchange.phase is Phase.TUNNEL:
            upstream.transport.write(data)
        else:
            return False
        return True

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
        self.client.wait(route.limits.read_timeout_seconds)
        if body.done:
            self._body = None
            self.client.put_back(body.rest)
            framed += exchange.request_end()
            self.client.wait(route.limits.write_timeout_seconds)
        if framed:
            upstream.transport.write(framed)

    # --- it answers -----------------------------------------------------------------------------------------

    def interim(self, head: ResponseHead) -> None:
        """A 1xx came."""
        assert self.exchange is not None
        self.client.transport.write(self.exchange.interim(head))
        self.heard_something()

    def heard_something(self) -> None:
        """The worker is not silent."""
        assert self.route is not None
        self.client.wait(self.route.limits.write_timeout_seconds)

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """A 101 and what followed it: this is a tunnel now. Raises :class:`BadMessage` if not asked for."""
        exchange, upstream, client = self.exchange, self.upstream, self.client
        assert exchange is not None and upstream is not None
        client.transport.write(exchange.switch(head) + rest)
        self._count(exchange)
        client.deadline = math.inf  # its ends watch over it; of a client that vanished, TCP keep-alive tells
        if exchange.request.upgrade.lower() == b"websocket":
            self._frames = FrameBoundary()
            self._frames.feed(rest)
        exchange.sent_bytes += len(rest)
        if early := client.take_backlog():
            upstream.transport.write(early)

    def answered(self, head: ResponseHead, rest: bytes) -> None:
        """The head of the answer and what followed it. A small answer is whole here, and written at once."""
        exchange, route, client = self.exchange, self.route, self.client
        assert exchange is not None and route is not None
        if self.worker is not None:
            self.worker.silent = 0
        if client.is_last:
            exchange.keep_alive = False
        appended = b""
        if route.failure_beside is not None and self._home.table.confides_in(exchange.request):
            head, appended = overlay.append_to(exchange.request, head, route.failure_beside)
        fields = client.fields
        if fields and value_of(head.lines, b"strict-transport-security"):
            fields = b""  # the page has its own
        out = exchange.response_head(head, self._home.ticker.date, appended, fields)
        body = exchange.answer_body
        if rest:
            out += exchange.response_body(body.feed(rest))
        if body.done:
            self._finish(exchange, out)
        else:
            client.transport.write(out)
            self.heard_something()
            if is_event_stream(head.lines):
                self._count(exchange)

    def answer_body(self, received: bytes) -> None:
        """More of the answer's body, or of what is no longer HTTP. Raises :class:`BadMessage`."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.phase is Phase.TUNNEL:
            if self._frames is not None:
                self._frames.feed(received)
            exchange.sent_bytes += len(received)
            self.client.transport.write(received)
            return
        out = exchange.response_body(exchange.answer_body.feed(received))
        if exchange.answer_body.done:
            self._finish(exchange, out)
        else:
            self.client.transport.write(out)
            self.heard_something()

    def _finish(self, exchange: Exchange, out: bytes) -> None:
        """The answer is whole."""
        self.client.transport.write(out + exchange.response_end())
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
        self.client.let_go(OPPOSITE_FULL)
        if self.worker is not None:
            self._home.dispatcher.part(self, self.worker)
            self.worker = None

    def _end(self, exchange: Exchange) -> None:
        """The client has its answer."""
        unread = self._body is not None
        self._forget()
        self.client.request_answered(keep_alive=exchange.keep_alive, unread=unread)

    def _forget(self) -> None:
        """There is no request any more."""
        if self.exchange is not None:
            self._count(self.exchange)
            if (access := self._home.access) is not None:
                self._log(access, self.exchange)
        if self.sending is not None:
            self.sending.stop()
            self.sending = None
        self._leave_page()
        self.exchange = None
        self._body = None
        self._frames = None
        self._is_waiting = False

    def _count(self, exchange: Exchange) -> None:
        """It is answered: in whole, or with what now lasts as long as both sides like. It counts once."""
        if not self._is_counted:
            page = self.route.page if self.route is not None else self._home.table.nobody
            page.answered(exchange.status, clock.monotonic() - self._begun)
            self._is_counted = True

    def _log(self, access: AccessLog, exchange: Exchange) -> None:
        """It has come to its end, and so has what lasted as long as both sides liked."""
        route = self.route
        served = NOBODY if route is None else Served(route.page.name, route.entry.revision, self._served_by)
        client = self.client.peer.speaks_for(exchange.request)
        access.note(client, exchange, served, clock.monotonic() - self._begun)

    # --- it does not ----------------------------------------------------------------------------------------

    def upstream_lost(self, upstream: Upstream, loss: Loss, *, clean: bool, reason: str) -> None:
        """The worker's connection is lost, and the answer was not known to be whole."""
        exchange, worker = self.exchange, self.worker
        assert exchange is not None and worker is not None
        if exchange.phase is Phase.SENT and not upstream.heard and loss is Loss.BROKEN:
            self._home.dispatcher.complain(worker, reason)
        self._part()
        self._obey(exchange.upstream_lost(loss, worker.number, heard=upstream.heard, clean=clean), reason)

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
                self.client.transport.write(b"" if was_tunnel else exchange.response_end())
                self._end(exchange)
            case Then.CUT:
                self._cut_off(exchange, reason)

    def reply(self, status: int, *, detail: str = "", failure: Failure | None = None, fields: bytes = b"") -> None:
        """Answer in the worker's place."""
        exchange = self.exchange
        assert exchange is not None
        self._drop_upstream()
        if self.client.is_last:
            exchange.keep_alive = False
        reply = replies.Reply(
            status, exchange.request_id, exchange.reply(status), detail, failure, self.client.fields + fields
        )
        if status >= 500 and self.route is not None:
            self.route.page.failures += 1
            if failure is None:  # that one control has logged, once and not for each request
                self._home.note_failure(self.route.page.name, exchange, detail)
        out = self._home.render(reply, exchange.request)
        exchange.sent_bytes = len(out) - out.index(b"\r\n\r\n") - 4
        self.client.transport.write(out)
        self._end(exchange)

    def _drop_upstream(self) -> None:
        upstream = self.upstream
        self._part()
        if upstream is not None:
            upstream.discard()

    def _cut_off(self, exchange: Exchange, reason: str) -> None:
        """End an answer that is not whole."""
        if self.route is not None:
            self.route.page.cut += 1
        self._home.note_cut(self.route.page.name if self.route else "", exchange, reason)
        self._drop_upstream()
        self._forget()
        self.client.cut_off(by_reset=exchange.ends_with_connection)

    def expire(self) -> None:
        """Nothing came for too long from whom it was waited for."""
        assert self.exchange is not None
        awaited = self._body is not None and not self.client.is_held
        if self.worker is not None and self.upstream is not None and not (awaited or self.upstream.heard):
            self.worker.silent += 1
        self._obey(self.exchange.fell_silent(client_awaited=awaited), "nothing came in time")

    # --- somebody leaves ------------------------------------------------------------------------------------

    @property
    def has_whole_request(self) -> bool:
        """Whether the client has sent all of a request, and waits for its answer."""
        exchange = self.exchange
        return exchange is not None and exchange.request_done and exchange.phase is not Phase.TUNNEL

    def client_left(self) -> None:
        """The client is gone, and takes its request along."""
        exchange, upstream = self.exchange, self.upstream
        if exchange is None:
            return
        self._part()
        self._forget()
        if upstream is None:
            return
        if exchange.phase is Phase.TUNNEL:
            upstream.close()
        else:
            upstream.discard()

    def cut(self) -> None:
        """The worker's drain deadline has passed."""
        exchange, upstream, worker = self.exchange, self.upstream, self.worker
        assert exchange is not None and worker is not None
        if self.end_tunnel():
            return
        heard = upstream is not None and upstream.heard
        self._drop_upstream()
        verdict = exchange.upstream_lost(Loss.BROKEN, worker.number, heard=heard, clean=False)
        self._obey(verdict, "its worker was stopped")

    def end_tunnel(self) -> bool:
        """If this is a tunnel, end it, and say so between two frames; tell whether it was one.

        Within a frame, or in another protocol, the end must speak for itself.
        """
        if self.exchange is None or self.exchange.phase is not Phase.TUNNEL:
            return False
        frames = self._frames
        self._drop_upstream()
        self._forget()
        if frames is not None and frames.is_between_frames:
            self.client.say_last(CLOSE_SERVICE_RESTART)
        else:
            self.client.close()
        return True
