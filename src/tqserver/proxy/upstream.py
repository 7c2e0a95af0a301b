"""A connection to a worker: parses responses, hands them to the downstream it serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tqserver.proxy import flow
from tqserver.proxy.table import WorkerState
from tqserver.wire.headers import Fields
from tqserver.wire.http1 import ParseError, UpgradeAt, response_parser

if TYPE_CHECKING:
    from tqserver.proxy.downstream import Downstream


class Upstream(asyncio.Protocol):
    """One connection, serving at most one downstream at a time; between two it is idle in its worker's pool."""

    def __init__(self, worker: WorkerState) -> None:
        self.worker = worker
        self.transport: asyncio.Transport | None = None
        self.valve: flow.Valve | None = None
        self.served = 0
        self.idle_since = 0.0
        self._downstream: Downstream | None = None
        self._is_head = False
        self._tunnel = False
        self._new_message()

    def _new_message(self) -> None:
        self._parser = response_parser(self)
        self._fields: Fields = []
        self._reason = b""
        self._until_close = False
        self._complete = False
        self._keep = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The worker accepted."""
        self.transport = cast(asyncio.Transport, transport)
        self.valve = flow.Valve(self.transport)
        flow.limit(self.transport)
        self.worker.opened.add(self)

    def serve(self, downstream: Downstream, *, is_head: bool) -> None:
        """Carry the next exchange."""
        self._downstream = downstream
        self._is_head = is_head
        self.served += 1

    def write(self, data: bytes) -> None:
        """Send to the worker."""
        if self.transport is not None:
            self.transport.write(data)

    def detach(self) -> None:
        """The exchange is over or has moved elsewhere."""
        self._downstream = None

    def close(self) -> None:
        """Close the connection."""
        self._downstream = None
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_reusable(self) -> bool:
        """Whether the next exchange may use this connection."""
        return self._keep and self.transport is not None and not self.transport.is_closing()

    # --- asyncio ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse, then let the downstream write once."""
        downstream = self._downstream
        if downstream is None:  # bytes between two exchanges: this worker cannot be followed any more
            self.close()
            return
        if self._tunnel:
            downstream.tunnelled(data)
            return
        try:
            self._parser.feed_data(data)
        except UpgradeAt as upgrade:
            if self._tunnel:
                downstream.flush()
                downstream.tunnelled(data[upgrade.args[0] :])
                return
        except ParseError:
            if not self._complete:
                downstream.upstream_lost(self, "it answered with something that is not HTTP")
                self.close()
                return
        downstream.flush()
        if self._complete:
            self._new_message_kept()
            downstream.upstream_complete(self)

    def _new_message_kept(self) -> None:
        keep = self._keep
        self._new_message()
        self._keep = keep

    def pause_writing(self) -> None:
        """The worker does not read: stop reading the client."""
        if self._downstream is not None:
            self._downstream.pause("upstream")

    def resume_writing(self) -> None:
        """The worker reads again."""
        if self._downstream is not None:
            self._downstream.resume("upstream")

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker closed, or died."""
        self.worker.opened.discard(self)
        if self in self.worker.idle:
            self.worker.idle.remove(self)
        downstream, self._downstream = self._downstream, None
        if downstream is None:
            return
        if self._tunnel:
            downstream.tunnel_ended()
        elif self._until_close and exc is None:
            self._keep = False
            downstream.upstream_complete(self)
        else:
            downstream.upstream_lost(self, str(exc or "it closed the connection"))

    # --- llhttp -------------------------------------------------------------------------------------------

    def on_status(self, reason: bytes) -> None:
        """Part of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        status = self._parser.get_status_code()
        downstream = self._downstream
        if downstream is None:
            return
        if status == 101:
            self._tunnel = True
            downstream.upstream_switches(self._reason, self._fields)
            return
        if status < 200:  # RFC 9110 15.2: interim; 100 was answered here, others go on
            if status != 100:
                downstream.upstream_interim(status, self._reason, self._fields)
            return
        names = dict(self._fields)
        self._keep = bool(self._parser.should_keep_alive())
        has_length = b"content-length" in names or b"transfer-encoding" in names
        has_body = not self._is_head and status not in (204, 304)
        self._until_close = has_body and not has_length
        downstream.upstream_head(status, self._reason, self._fields)
        if self._is_head:  # llhttp would wait for the body that a HEAD response does not have
            self._complete = True
            self._keep = self._keep and names.get(b"connection", b"").lower() != b"close"

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._downstream is not None and not self._complete:
            self._downstream.upstream_body(body)

    def on_message_complete(self) -> None:
        """A message is complete: the response, or an interim one."""
        if self._tunnel:
            return
        if self._parser.get_status_code() < 200:
            self._fields, self._reason = [], b""
        else:
            self._complete = True
