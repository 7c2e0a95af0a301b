"""The link to control: its messages in, ours out, as frames over the socket pair that control passed."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tqserver.host.channel import Channel
from tqserver.wire.messages import FromProxy, ToProxy, from_proxy, to_proxy


class Link:
    """Calls ``on_message`` for each message of control, and ``on_close`` when control is gone."""

    def __init__(self, on_message: Callable[[ToProxy], None], on_close: Callable[[], None]) -> None:
        self._on_message = on_message
        self._channel = Channel(self._on_payload, on_close)

    async def attach(self, fileno: int) -> None:
        """Take over the descriptor."""
        await self._channel.attach(socket.socket(fileno=fileno))

    def _on_payload(self, payload: bytes) -> None:
        self._on_message(to_proxy.decode(payload))

    def send(self, message: FromProxy) -> None:
        """Tell control; if it is gone, ``on_close`` says so."""
        self._channel.send(from_proxy.encode(message))
