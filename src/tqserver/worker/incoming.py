"""What comes from the client of one request: its body, for the function; its departure, for the response.

A streamed response listens for the departure while it is sent, and its generator may read the body meanwhile.
Both on one ``receive`` would take each other's messages: parts of the body would be lost, without a word.
"""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import Message, Receive

_MOST_AHEAD = 65536  # bytes of a body that are held for a function that does not read them


class Incoming:
    """Calling it receives for the function (ASGI ``receive``)."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._one_at_a_time = asyncio.Lock()
        self._ahead: deque[Message] = deque()
        self._taken = asyncio.Event()

    async def __call__(self) -> Message:
        """Return the next part of the body, then the departure."""
        if not self._ahead:
            async with self._one_at_a_time:  # in turn: departure() may put what it waits for into _ahead
                if not self._ahead:
                    return await self._receive()
        self._taken.set()
        return self._ahead.popleft()

    async def departure(self) -> Message:
        """Return once the client has gone, as far as that can be known without reading on for ever."""
        while True:
            async with self._one_at_a_time:
                message = await self._receive()
                self._ahead.append(message)
            if message["type"] == "http.disconnect":
                return message
            while sum(len(part.get("body", b"")) for part in self._ahead) > _MOST_AHEAD:
                self._taken.clear()
                await self._taken.wait()
