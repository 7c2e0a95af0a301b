"""What all connections of a proxy share."""

from __future__ import annotations

import secrets
from itertools import count

from tqserver.host.log import get_logger
from tqserver.proxy import replies
from tqserver.proxy.dispatch import Dispatcher
from tqserver.proxy.downstream import Downstream
from tqserver.proxy.replies import Reply
from tqserver.proxy.table import Table
from tqserver.proxy.ticker import Ticker
from tqserver.wire.http1 import RequestHead

LOGGED_PER_TICK = 10  # failures; all are counted, and a flood of them is not a reason to be slow

log = get_logger("proxy")


class Home:
    """The clients of a proxy, and what they need to be served."""

    def __init__(self, table: Table, dispatcher: Dispatcher, ticker: Ticker) -> None:
        self.table = table
        self.dispatcher = dispatcher
        self.ticker = ticker
        self.clients: set[Downstream] = set()
        self.is_leaving = False
        self._prefix = secrets.token_hex(4).encode()
        self._numbers = count(1)
        self._may_log = LOGGED_PER_TICK

    def next_request_id(self) -> bytes:
        """Make a request id: unique among all proxies and their restarts, and cheap."""
        return b"%b-%x" % (self._prefix, next(self._numbers))

    def render(self, reply: Reply, request: RequestHead | None) -> bytes:
        """Return the bytes of an answer of the proxy itself."""
        return replies.render(reply, request, mode=self.table.mode, date=self.ticker.date)

    def note_failure(self, page: str, reply: Reply, reason: str) -> None:
        """A request was answered here with 5xx."""
        self._log("request.failed", page, reply.request_id, reason, status=reply.status)

    def note_cut(self, page: str, request_id: bytes, reason: str) -> None:
        """An answer was cut short."""
        self._log("response.cut", page, request_id, reason)

    def _log(self, event: str, page: str, request_id: bytes, reason: str, **more: object) -> None:
        if self._may_log:
            self._may_log -= 1
            log.warning(event, page=page, request_id=request_id.decode(), reason=reason, **more)

    def tick(self) -> None:
        """End what has lasted too long."""
        self._may_log = LOGGED_PER_TICK
        passed = self.ticker.passed
        for client in [client for client in self.clients if passed(client.deadline)]:
            client.expire()
