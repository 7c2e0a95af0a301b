"""What all connections of a proxy share."""

from __future__ import annotations

import secrets
from itertools import count

from tqserver.host.log import get_logger
from tqserver.proxy import replies
from tqserver.proxy.access_log import AccessLog
from tqserver.proxy.clients import Clients
from tqserver.proxy.dispatch import Dispatcher
from tqserver.proxy.exchange import Exchange
from tqserver.proxy.replies import Reply
from tqserver.proxy.table import Table
from tqserver.proxy.ticker import Ticker
from tqserver.wire.headers import is_trace, value_of
from tqserver.wire.http1 import RequestHead
from tqserver.wire.messages import AccessLogged

LOGGED_PER_TICK = 10  # failures; all are counted, and a flood of them is not a reason to be slow

log = get_logger("proxy")


class Home:
    """The clients of a proxy, and what they need to be served."""

    def __init__(self, table: Table, dispatcher: Dispatcher, ticker: Ticker, clients: Clients, stdout: int) -> None:
        self.table = table
        self.dispatcher = dispatcher
        self.ticker = ticker
        self.clients = clients
        self._stdout = stdout
        self.access: AccessLog | None = None
        self.is_leaving = False
        self._prefix = secrets.token_hex(4).encode()
        self._numbers = count(1)
        self._may_log = LOGGED_PER_TICK

    def log_access(self, settings: AccessLogged | None) -> None:
        """Log requests by these settings from now on, None for not at all."""
        if settings == (self.access.settings if self.access is not None else None):
            return
        if self.access is not None:
            self.access.close()
        self.access = AccessLog(settings, self._stdout) if settings is not None else None

    def next_request_id(self) -> bytes:
        """Make a request id: unique among all proxies and their restarts, and cheap."""
        return b"%b-%x" % (self._prefix, next(self._numbers))

    def render(self, reply: Reply, request: RequestHead | None) -> bytes:
        """Return the bytes of an answer of the proxy itself."""
        table = self.table
        return replies.render(
            reply, request, mode=table.mode, is_confided=table.confides_in(request), date=self.ticker.date
        )

    def note_failure(self, page: str, exchange: Exchange, reason: str) -> None:
        """A request was answered here with 5xx."""
        self._log("request.failed", page, exchange, reason, status=exchange.status)

    def note_cut(self, page: str, exchange: Exchange, reason: str) -> None:
        """An answer was cut short."""
        self._log("response.cut", page, exchange, reason)

    def _log(self, event: str, page: str, exchange: Exchange, reason: str, **more: object) -> None:
        """Log it by the names that others have for the request: its id, and the trace that it is part of."""
        if self._may_log:
            self._may_log -= 1
            if is_trace(trace := value_of(exchange.request.lines, b"traceparent")):
                more["traceparent"] = trace.decode()
            log.warning(event, page=page, request_id=exchange.request_id.decode(), reason=reason, **more)

    def tick(self) -> None:
        """End what has lasted too long."""
        self._may_log = LOGGED_PER_TICK
        if self.access is not None:
            self.access.tick()
        passed = self.ticker.passed
        for client in self.clients:
            if passed(client.deadline):
                client.expire()
        self.clients.tick()
