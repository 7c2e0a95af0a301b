"""The tree of zygotes as control keeps it: no request to fork is lost with the zygote that it was sent to."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.worker.conftest import children
from tests.worker.played import DEADLINE_SECONDS
from tqserver.control import zygotes
from tqserver.control.zygotes import Forked, Zygote, ZygoteTree
from tqserver.host.process import reaper
from tqserver.host.tasks import TaskOwner
from tqserver.wire.messages import PageSpec

MODULES = ("csv",)
T = TypeVar("T")


@pytest.fixture
async def tree(project: Path) -> AsyncIterator[ZygoteTree]:
    """A tree with a zygote that holds MODULES. What a task of it fails with fails the test."""
    failures: list[BaseException] = []
    tasks = TaskOwner(lambda _, error: failures.append(error))
    reaper().install()
    tree = ZygoteTree(project, dict(os.environ), tasks)
    await tree.start()
    tree.learn(MODULES)
    try:
        yield tree
    finally:
        await tree.close()
        await tasks.close()
        reaper().close()
    assert failures == []


def spec(project: Path) -> PageSpec:
    """A page that is not there: its worker starts, says Failed, and exits."""
    return PageSpec(
        worker=1, page="p", route="/p", revision=1, directory=str(project), artifact=str(project), entry="main.py",
        project=str(project), socket=str(project / "s"), mode="dev", environment={},
    )  # fmt: skip


async def soon(waited: Awaitable[T]) -> T:
    return await asyncio.wait_for(waited, DEADLINE_SECONDS)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def finish(forked: Forked) -> None:
    """Let a worker end, and give back what control holds of it."""
    while await soon(forked.report.next()) is not None:
        pass
    await soon(forked.child.wait())
    os.close(forked.output_fd)


async def zygote_with_modules(tree: ZygoteTree, project: Path) -> Zygote:
    forked, zygote = await soon(tree.fork(spec(project), MODULES))
    await finish(forked)
    assert zygote.modules == MODULES
    return zygote


async def stopped_with_a_request(
    tree: ZygoteTree, project: Path, zygote: Zygote, modules: tuple[str, ...]
) -> asyncio.Task[tuple[Forked, Zygote]]:
    """Have a zygote hold a request that it has not read."""
    assert zygote.child is not None
    os.kill(zygote.child.pid, signal.SIGSTOP)
    state = Path(f"/proc/{zygote.child.pid}/stat")
    await until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    assert zygote.channel is not None
    sent: list[bytes] = []
    send_with = zygote.channel.send_with

    def record(payload: bytes, descriptors: Sequence[int]) -> None:
        send_with(payload, descriptors)
        sent.append(payload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zygote.channel, "send_with", record)
        forking = asyncio.get_running_loop().create_task(tree.fork(spec(project), modules))
        await until(lambda: bool(sent))
    return forking


async def test_workers_that_need_what_no_zygote_has_share_a_new_one(tree: ZygoteTree, project: Path) -> None:
    """So it is after a start of the server: what pages import is known, and nothing is imported yet."""
    forks = await soon(asyncio.gather(*(tree.fork(spec(project), ("fractions",)) for _ in range(3))))
    for forked, _ in forks:
        await finish(forked)
    first = forks[0][1]
    assert first.modules == ("fractions",)
    assert all(by is first for _, by in forks)


async def test_a_zygote_that_is_retired_does_first_what_it_was_asked(tree: ZygoteTree, project: Path) -> None:
    zygote = await zygote_with_modules(tree, project)
    forking = await stopped_with_a_request(tree, project, zygote, MODULES)
    tree.keep_only([])
    assert zygote.child is not None
    os.kill(zygote.child.pid, signal.SIGCONT)
    forked, by = await soon(forking)
    await finish(forked)
    assert by is zygote
    assert await soon(zygote.child.wait()) == 0


async def test_a_request_that_dies_with_its_zygote_is_made_again(tree: ZygoteTree, project: Path) -> None:
    zygote = await zygote_with_modules(tree, project)
    forking = await stopped_with_a_request(tree, project, zygote, MODULES)
    assert zygote.child is not None
    os.kill(zygote.child.pid, signal.SIGKILL)
    forked, by = await soon(forking)
    await finish(forked)
    assert by.number == 0


async def test_a_request_that_dies_with_the_root_waits_for_its_successor(tree: ZygoteTree, project: Path) -> None:
    await zygote_with_modules(tree, project)
    forked, root = await soon(tree.fork(spec(project), ()))
    await finish(forked)
    forking = await stopped_with_a_request(tree, project, root, ())
    assert root.child is not None
    os.kill(root.child.pid, signal.SIGKILL)
    forked, by = await soon(forking)
    await finish(forked)
    assert by.number == 0
    assert by is not root


async def test_a_zygote_that_hangs_is_killed_and_another_is_asked(
    tree: ZygoteTree, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zygote = await zygote_with_modules(tree, project)
    monkeypatch.setattr(zygotes, "ANSWER_SECONDS", 0.2)
    forked, by = await soon(await stopped_with_a_request(tree, project, zygote, MODULES))
    await finish(forked)
    assert by.number == 0
    assert zygote.child is not None
    assert await soon(zygote.child.wait()) == -signal.SIGKILL


async def test_a_worker_that_is_no_longer_wanted_is_ended(tree: ZygoteTree, project: Path) -> None:
    """Its start is given up when it has said that it runs and nobody has heard it yet."""
    zygote = await zygote_with_modules(tree, project)
    (project / "main.py").write_text("def get():\n    return 'for ever'\n")
    forking = await stopped_with_a_request(tree, project, zygote, MODULES)
    assert zygote.child is not None
    os.kill(zygote.child.pid, signal.SIGCONT)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (running := workers()):  # the loop stands still: nobody hears anything
        assert time.monotonic() < deadline
    forking.cancel()
    await until(lambda: workers() == [])
    assert zygote.child.code is None
    assert len(running) == 1


def workers() -> list[int]:
    """The workers below this process: one has its title since it has said that it runs."""
    return [pid for pid in children() if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"tqserver: worker")]


async def test_a_retired_zygote_is_waited_for_at_the_end(tree: ZygoteTree, project: Path) -> None:
    zygote = await zygote_with_modules(tree, project)
    assert zygote.child is not None
    os.kill(zygote.child.pid, signal.SIGSTOP)
    tree.keep_only([])
    closing = asyncio.get_running_loop().create_task(tree.close())
    await asyncio.sleep(0)
    os.kill(zygote.child.pid, signal.SIGCONT)
    await soon(closing)
    assert zygote.child.code is not None
