"""An attempt under way: it ends by itself, or when it is overtaken by what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tqserver.build.files import Unsettled
from tqserver.control.goal import Failed
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import TQError


async def unless_overtaken(
    work: Callable[[], Awaitable[None]],
    disturbed: asyncio.Event,
    still_holds: Callable[[], Awaitable[bool]],
    tasks: TaskOwner,
    name: str,
) -> Failed:
    """Do the work; return what it failed with, Unsettled if it was ended since it ``still_holds`` no more.

    That is asked after each change, which sets ``disturbed``. If that raises, or the caller is cancelled, the work
    has ended too.
    """
    attempt = tasks.start(_outcome(work), name=name)
    try:
        while not attempt.done():
            change = tasks.start(disturbed.wait(), name="disturbed")
            await asyncio.wait({attempt, change}, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            if attempt.done():
                break
            disturbed.clear()
            if not await still_holds() and not attempt.done():
                await _end(attempt)
    except BaseException:
        await _end(attempt)
        raise
    return Unsettled("overtaken by newer content") if attempt.cancelled() else attempt.result()


async def _outcome(work: Callable[[], Awaitable[None]]) -> Failed:
    try:
        await work()
    except (TQError, Unsettled) as error:
        return error
    return None


async def _end(attempt: asyncio.Task[Failed]) -> None:
    attempt.cancel()
    await asyncio.wait({attempt})
