"""The ASGI lifespan protocol (asgiref, specs/lifespan): startup before all requests, shutdown after them."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message

from tqserver.model.errors import StartError
from tqserver.worker.traces import format_trace


class Lifespan:
    """One app's. ``state`` is what its startup has put there for its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, object] = {}
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the app. Raises :class:`StartError`, with what the app says, if it says that it cannot.

        An app that ends or raises before it answers takes no part in the protocol, as the specification says.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is None or answer["type"] != "lifespan.startup.failed":
            return
        await asyncio.wait([self._task])  # most apps raise the cause after they have answered
        error = self._task.exception()
        output = format_trace(error) if error is not None else str(answer.get("message", ""))
        last = output.strip().rpartition("\n")[2]
        raise StartError(f"the app's startup failed: {last}", output=output) from error

    async def shutdown(self, timeout_seconds: float) -> None:
        """Stop the app, if it takes part, and wait for it no longer than ``timeout_seconds``."""
        if self._task is None or self._task.done():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._ask("lifespan.shutdown")
        except TimeoutError:
            return  # the process is about to exit

    async def _ask(self, event: str) -> Message | None:
        """Send an event; return the answer, None if the app ended without one."""
        assert self._task is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._to_app.put_nowait({"type": event})
        waited: list[asyncio.Future[Any]] = [self._task, self._answer]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return self._answer.result() if self._answer.done() else None

    async def _run(self) -> None:
        scope: dict[str, Any] = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._to_app.get, self._send)

    async def _send(self, message: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(message)
