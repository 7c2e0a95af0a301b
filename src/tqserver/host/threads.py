"""Work that takes long and yet needs no process of its own: beside the event loop, and never left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")
Check = Callable[[], None]


class Abandoned(Exception):
    """Nobody waits for the work any more."""


async def in_thread(work: Callable[[Check], ResultT]) -> ResultT:
    """Run ``work`` in a thread and return its result.

    It calls what it is given every few milliseconds. If the caller is cancelled that raises :class:`Abandoned`, and the
    thread's end is waited for: what it works on may then be removed.
    """
    abandoned = threading.Event()

    def check() -> None:
        if abandoned.is_set():
            raise Abandoned

    running = asyncio.get_running_loop().run_in_executor(None, work, check)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        abandoned.set()
        await asyncio.wait({running})
        running.exception()  # looked at, so that nobody calls it forgotten
        raise
