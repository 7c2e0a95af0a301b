"""The life of one request, from its head to the end of its answer.

::

    ADMITTED --send--> SENT --response_head--> ANSWERING --response_end--> DONE
       ^                |  \\
       +---- RETRY -----+   +--switch--> TUNNEL

This decides; downstream, upstream and dispatch do. Bytes go in and bytes come out; there is no socket, no
clock and no chance here. The methods stand in the order in which things happen; below them is what can go
wrong, each with a verdict.

The rules that matter: a request is sent again only if nothing of an answer came and sending it twice does no
harm; an answer that was cut short is cut short for the client too, never ended as if it were whole.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tqserver.wire.bodies import LAST_CHUNK, Body, ChunkedBody, EndlessBody, LengthBody, chunk
from tqserver.wire.http1 import BadMessage, RequestHead, ResponseHead

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))  # RFC 9110 9.2.2
MOST_TRIES = 4
KEPT_BODY_BYTES = 64 * 1024  # of a body that could have to be sent again
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# RFC 9110 7.6.3: the protocol that a message was received by, and a pseudonym; by minor version
_VIA = (b"\r\nVia: 1.0 tqserver", b"\r\nVia: 1.1 tqserver")
_BODILESS = frozenset((204, 304))  # RFC 9110 6.4.1; answers to HEAD besides


class Phase(enum.Enum):
    """Where in its life a request is."""

    ADMITTED = "admitted"  # no worker has it: one is being chosen, waited for, connected to
    SENT = "sent"  # a worker has its head, and has not answered
    ANSWERING = "answering"  # the client has the head of an answer
    TUNNEL = "tunnel"  # no longer HTTP
    DONE = "done"


class Framing(enum.Enum):
    """How the client knows where the answer's body ends."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Loss(enum.Enum):
    """How a worker's connection was lost."""

    REFUSED = "refused"  # never opened, or given up before anything was written to it
    STALE = "stale"  # had served before: it may have been closed just as it was used again
    BROKEN = "broken"  # was new: the worker closed it, or died
    GARBLED = "garbled"  # what came on it was not HTTP


class Then(enum.Enum):
    """What is to be done now."""

    RETRY = "retry"  # dispatch it again
    REPLY = "reply"  # answer in the worker's place
    CUT = "cut"  # the client must see that the answer is not whole
    FINISH = "finish"  # the answer is whole


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done now, and the status of a reply."""

    then: Then
    status: int = 0


RETRY = Verdict(Then.RETRY)
CUT = Verdict(Then.CUT)
FINISH = Verdict(Then.FINISH)


class Exchange:
    """One request and its answer.

    ``forwarding`` are the forwarding fields' lines. ``answer_body`` reads the body of the worker's answer,
    from :meth:`response_head` on. ``avoided`` are the workers that have just failed this request.
    ``awaits_continue``: the client sends its body when it is told to.
    ``keep_alive`` tells whether the client's connection survives this exchange. ``sent_bytes`` of the answer's body
    went to the client.
    """

    __slots__ = (
        "_appended", "_forwarding", "_framing", "_kept", "_losses", "answer_body", "avoided", "awaits_continue",
        "body_bytes", "is_repeatable", "keep_alive", "needs_fresh_connection", "phase", "request", "request_done",
        "request_id", "sent_bytes", "status", "worker_keeps_alive",
    )  # fmt: skip

    # --- as it goes ---------------------------------------------------------------------------------------

    def __init__(self, request: RequestHead, request_id: bytes, forwarding: bytes) -> None:
        self.request = request
        self.request_id = request_id
        self.phase = Phase.ADMITTED
        self.keep_alive = request.keep_alive
        self.request_done = not request.has_body
        self.is_repeatable = request.method in IDEMPOTENT
        self.needs_fresh_connection = False
        self.awaits_continue = request.expect != b""  # RFC 9110 10.1.1
        self.avoided: tuple[int, ...] = ()
        self.body_bytes = 0
        self.status = 0
        self.sent_bytes = 0
        self._appended = b""
        self._forwarding = forwarding
        self._framing = Framing.NONE
        self._kept = b""
        self._losses = 0

    def request_body_reader(self) -> LengthBody | ChunkedBody:
        """Return what reads the request's body, which is to come, off the client's connection."""
        return LengthBody(self.request.content_length) if self.request.codings is None else ChunkedBody()

    def send(self) -> bytes:
        """A worker's connection was chosen: return the head for it, and what was kept of the body."""
        request = self.request
        self.phase = Phase.SENT
        framing = b""
        if request.content_length >= 0:
            framing = b"\r\nContent-Length: %d" % request.content_length
        elif request.codings is not None:
            framing = b"\r\nTransfer-Encoding: chunked"
        if request.upgrade:
            framing += b"\r\nConnection: Upgrade\r\nUpgrade: " + request.upgrade
        return b"".join((
            request.method, b" ", request.target, b" HTTP/1.1\r\nHost: ", request.host or b"",
            request.lines, framing, _VIA[request.minor], self._forwarding, b"\r\nX-Request-Id: ", self.request_id,
            b"\r\n\r\n", self._kept,
        ))  # fmt: skip

    def request_body(self, content: bytes) -> bytes:
        """Some of the request's body came: return it framed for the worker."""
        self.body_bytes += len(content)
        return self._keep(content if self.request.codings is None else chunk(content))

    def request_end(self) -> bytes:
        """The request is whole: return what ends it for the worker."""
        self.request_done = True
        return b"" if self.request.codings is None else self._keep(LAST_CHUNK)

    def _keep(self, framed: bytes) -> bytes:
        """Keep what a second worker would need, as long as it is small."""
        if self.is_repeatable:
            self._kept += framed
            if len(self._kept) > KEPT_BODY_BYTES:
                self.is_repeatable = False
                self._kept = b""
        return framed

    def interim(self, response: ResponseHead) -> bytes:
        """A 1xx came: return what the client gets of it.

        100 Continue was the proxy's to say, when the worker was chosen; HTTP/1.0 has no 1xx (RFC 9110 15.2).
        """
        if response.status == 100 or self.request.minor == 0:
            return b""
        return b"".join((
            b"HTTP/1.1", response.reason, response.lines, _VIA[response.minor],
            b"\r\nX-Request-Id: ", self.request_id, b"\r\n\r\n",
        ))  # fmt: skip

    def switch(self, response: ResponseHead) -> bytes:
        """The worker answered 101: return the head for the client, after which nothing is HTTP any more.

        Raises :class:`BadMessage` if nobody asked for it.
        """
        if not self.request.upgrade:
            raise BadMessage("101 without a request for an upgrade")
        self.phase = Phase.TUNNEL
        self.status = 101
        self.keep_alive = False
        return b"".join((
            b"HTTP/1.1", response.reason, response.lines, b"\r\nConnection: Upgrade\r\nUpgrade: ",
            response.upgrade or self.request.upgrade, _VIA[response.minor],
            b"\r\nX-Request-Id: ", self.request_id, b"\r\n\r\n",
        ))  # fmt: skip

    def response_head(self, response: ResponseHead, date: bytes, appended: bytes = b"", fields: bytes = b"") -> bytes:
        """The answer's head came: decide how its body is framed, and return the head for the client.

        ``date`` is used for an answer that has none (RFC 9110 6.6.1). ``appended`` follows the body's last byte
        and is part of the answer; it must be empty for an answer that has no body. ``fields`` are lines of our own.
        """
        self._appended = appended
        self.phase = Phase.ANSWERING
        self.status = status = response.status
        self.worker_keeps_alive = response.keep_alive
        length = response.content_length
        framing = b""
        self.answer_body: Body
        if self.request.method == b"HEAD" or status in _BODILESS:
            self._framing = Framing.NONE
            self.answer_body = LengthBody(0)
            if length >= 0 and status != 204:  # RFC 9110 8.6
                framing = b"\r\nContent-Length: %d" % length
        elif length >= 0:
            self._framing = Framing.LENGTH
            self.answer_body = LengthBody(length)
            framing = b"\r\nContent-Length: %d" % (length + len(appended))
        else:
            self.answer_body = ChunkedBody() if response.chunked else EndlessBody()
            self._framing = Framing.CHUNKED if self.request.minor else Framing.CLOSE
            framing = b"\r\nTransfer-Encoding: chunked" if self.request.minor else b""
        return b"".join((
            b"HTTP/1.1", response.reason, response.lines, framing, self._connection_field(),
            fields, _VIA[response.minor], b"\r\nDate: ", response.date or date,
            b"\r\nX-Request-Id: ", self.request_id, b"\r\n\r\n",
        ))  # fmt: skip

    def _connection_field(self) -> bytes:
        """Decide whether the connection survives; a body still on its way would be read as a request."""
        if not self.request_done or self._framing is Framing.CLOSE:
            self.keep_alive = False
        if not self.keep_alive:
            return b"\r\nConnection: close"
        return b"" if self.request.minor else b"\r\nConnection: keep-alive"

    def response_body(self, content: bytes) -> bytes:
        """Some of the answer's body came: return it framed for the client."""
        self.sent_bytes += len(content)
        return chunk(content) if content and self._framing is Framing.CHUNKED else content

    def response_end(self) -> bytes:
        """The answer is whole: return what ends it for the client."""
        self.phase = Phase.DONE
        appended = self._appended
        self.sent_bytes += len(appended)
        if self._framing is Framing.CHUNKED:
            return chunk(appended) + LAST_CHUNK if appended else LAST_CHUNK
        return appended

    @property
    def ends_with_connection(self) -> bool:
        """Whether the client takes the end of its connection for the end of the answer."""
        return self._framing is Framing.CLOSE

    # --- as it may go wrong -------------------------------------------------------------------------------

    def upstream_lost(self, loss: Loss, worker: int, *, heard: bool, clean: bool) -> Verdict:
        """The connection to this worker was lost.

        ``heard``: something of an answer had come on it; ``clean``: it was ended, and not reset.
        """
        match self.phase:
            case Phase.ADMITTED:
                return RETRY
            case Phase.SENT:
                if self.is_repeatable and not heard and self._may_lose(loss, worker):
                    self.phase = Phase.ADMITTED
                    self.needs_fresh_connection = True
                    return RETRY
                return Verdict(Then.REPLY, 502)
            case Phase.ANSWERING:
                # An endless body's end is its connection's; any other body is short.
                if clean and isinstance(self.answer_body, EndlessBody):
                    return FINISH
                return CUT
            case Phase.TUNNEL | Phase.DONE:
                return FINISH if clean else CUT

    def _may_lose(self, loss: Loss, worker: int) -> bool:
        """Allow for workers that die one after another; a deadly request is not sent for ever.

        One that dies may still take a connection, only to reset it. So it is avoided for a while, in which
        control replaces it or it turns out to be alive.
        """
        self._losses += 1
        if loss is Loss.BROKEN:
            self.avoided += (worker,)
        return loss is not Loss.GARBLED and self._losses < MOST_TRIES

    def forgive(self) -> bool:
        """A while has passed: avoid nobody any more, and tell whether anybody was."""
        avoided, self.avoided = self.avoided, ()
        return bool(avoided)

    def fell_silent(self, *, client_awaited: bool) -> Verdict:
        """Nothing came for too long from whom it was waited for: the client's body, or the worker."""
        match self.phase:
            case Phase.ADMITTED:
                return Verdict(Then.REPLY, 503)
            case Phase.SENT:
                return Verdict(Then.REPLY, 408 if client_awaited else 504)
            case Phase.ANSWERING | Phase.TUNNEL | Phase.DONE:
                return CUT

    def request_refused(self, status: int) -> Verdict:
        """The rest of the request is malformed (400) or too large (413)."""
        return CUT if self.phase is Phase.ANSWERING else Verdict(Then.REPLY, status)

    def reply(self, status: int) -> bool:
        """The proxy answers in the worker's place: return whether the client's connection survives it."""
        self.phase = Phase.DONE
        self.status = status
        self.keep_alive = self.keep_alive and self.request_done
        return self.keep_alive
