"""Snapshots in, acknowledgements out, over the socketpair to control."""

from __future__ import annotations

from collections.abc import Callable

from tqserver.host.channel import Channel
from tqserver.wire.codec import Message
from tqserver.wire.messages import ToProxy, from_proxy, to_proxy


class Link:
    """The proxy's end. ``on_message`` gets what control says; ``on_end`` is called when control is gone."""

    def __init__(self, on_message: Callable[[ToProxy], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self.channel = Channel(self._on_payload, on_end)

    def _on_payload(self, payload: bytes) -> None:
        self._on_message(to_proxy.decode(payload))

    def say(self, message: Message) -> None:
        """Tell control."""
        self.channel.send(from_proxy.encode(message))
