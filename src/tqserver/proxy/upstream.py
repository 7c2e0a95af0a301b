"""A connection to a worker: requests are written to it, one at a time, and their answers read from it.

While nobody has it, it is in its worker's pool; what comes on it then was not asked for, and it is closed.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from tqserver.proxy.exchange import Loss
from tqserver.proxy.flow import OPPOSITE_FULL, Flow
from tqserver.wire.http1 import BadMessage, ResponseReader

if TYPE_CHECKING:
    from tqserver.proxy.relay import Relay
    from tqserver.proxy.table import Worker

MAX_HEAD_BYTES = 256 * 1024  # of an answer; a worker is trusted more than a client


class Upstream(Flow):
    """One connection. ``relay`` is None while it is idle, since ``idle_since``.

    ``heard`` tells whether something of the present answer has come.
    """

    __slots__ = (
        "_ended", "_head", "_poll", "_reader", "_reads_head", "_was_used", "heard", "idle_since", "relay", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker
        self.relay: Relay | None = None
        self.idle_since = 0.0
        self.heard = False
        self._head = b""  # of an answer, while it is not whole
        self._reader = ResponseReader()
        self._reads_head = True
        self._was_used = False
        self._ended = False
        self._poll: select.poll | None = None

    def opposite(self) -> Flow | None:
        """What is written to the worker is read from the client."""
        return self.relay.client if self.relay is not None else None

    # --- used by a relay ------------------------------------------------------------------------------------

    def take(self, relay: Relay) -> None:
        """This relay's request is written next."""
        self.relay = relay
        self.heard = False
        self._reads_head = True

    def release(self) -> None:
        """The answer is whole; the connection can serve another request."""
        self.relay = None
        self._was_used = True
        if self._reasons:
            self.let_go(OPPOSITE_FULL)

    def discard(self) -> None:
        """Nobody wants anything more of it, and what is on its way must not reach another."""
        self.relay = None
        self.transport.abort()

    def close(self) -> None:
        """Close it after what was written."""
        self.relay = None
        self.transport.close()

    def is_usable(self, *, checked: bool) -> bool:
        """Tell whether the worker has not closed it, as far as we know or, ``checked``, the kernel does."""
        if self.transport.is_closing() or self._ended:
            return False
        return not checked or not self._has_something_to_read()

    def _has_something_to_read(self) -> bool:
        """On an idle connection that is its end, or what nobody asked for."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    # --- what the worker does -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio)."""
        relay = self.relay
        if relay is None:
            self.transport.abort()
            return
        self.heard = True
        try:
            if self._reads_head:
                self._read_head(relay, self._head + data if self._head else data)
            else:
                relay.answer_body(data)
        except BadMessage as error:
            self._lost(Loss.GARBLED, clean=False, reason=str(error))

    def _read_head(self, relay: Relay, data: bytes) -> None:
        head = self._reader.read(data, len(self._head))
        while head is not None and head.status < 200 and head.status != 101:
            relay.interim(head)
            data = data[head.size :]
            head = self._reader.read(data)
        if head is None:
            if len(data) > MAX_HEAD_BYTES:
                raise BadMessage("the head of the answer does not end")
            self._head = data
            relay.heard_something()
            return
        self._reads_head, self._head = False, b""
        if head.status == 101:
            relay.switched(head, data[head.size :])
        else:
            relay.answered(head, data[head.size :])

    def eof_received(self) -> None:
        """The worker has sent all it will (asyncio)."""
        self._ended = True
        self._lost(self._loss(), clean=True, reason="the worker closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone (asyncio)."""
        self._ended = True
        self._lost(self._loss(), clean=exc is None, reason=str(exc or "the worker closed the connection"))

    def _loss(self) -> Loss:
        return Loss.STALE if self._was_used else Loss.BROKEN

    def _lost(self, loss: Loss, *, clean: bool, reason: str) -> None:
        relay, self.relay = self.relay, None
        self.transport.abort()
        if relay is not None:
            relay.upstream_lost(self, loss, clean=clean, reason=reason)
        else:
            self._leave_pool()

    def _leave_pool(self) -> None:
        if self in self.worker.idle:
            self.worker.idle.remove(self)
