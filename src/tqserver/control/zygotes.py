"""Zygotes: processes that hold imported modules, from which Python workers are forked.

The root zygote has the worker runtime. What a page's worker imported from outside the project is learned; for each
such set of modules a zygote is forked from the root, imports it once, and forks the page's next workers. Project
code is never imported in a zygote (pitfall 15), and a module that starts a thread at import is left out (16).

Workers and zygotes are control's children (``docs/decisions/0002``): the death of a zygote takes nothing along,
not even a request to fork that it had not read.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqserver.control.plan import RestartPolicy
from tqserver.host import clock
from tqserver.host.channel import Channel
from tqserver.host.log import OutputLines, get_logger
from tqserver.host.process import Child, python_argv, reaper, spawn
from tqserver.host.sockets import pair
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import StartError
from tqserver.wire.codec import WireError
from tqserver.wire.frames import MAX_REPORT_FRAME_BYTES
from tqserver.wire.messages import (
    Failed,
    Fork,
    FromChild,
    Loaded,
    PageSpec,
    Preload,
    Ready,
    Started,
    from_child,
    to_zygote,
)

FORK_ATTEMPTS = 5
PRELOAD_TIMEOUT_SECONDS = 60.0
FORK_TIMEOUT_SECONDS = PRELOAD_TIMEOUT_SECONDS + 15.0  # a worker waits for a zygote that is being made
ANSWER_SECONDS = 10.0  # from the request to a child, or to the reason why there is none
MOST_ZYGOTES = 16  # besides the root; a page whose set would be one more is forked from the nearest
log = get_logger("zygotes")


class Report:
    """The messages of one forked child, in order; ``None`` at their end.

    ``garbled`` says why nothing more is heard though it may still run: what it said was no message.
    """

    def __init__(self) -> None:
        self.has_spoken = False
        self.garbled = ""
        self._messages: deque[FromChild | None] = deque()
        self._arrived = asyncio.Event()
        self._channel = Channel(
            lambda payload: self._take(from_child.decode(payload)),
            lambda: self._take(None),
            self._is_garbled,
            MAX_REPORT_FRAME_BYTES,
        )

    async def attach(self, sock: socket.socket) -> None:
        """Listen to the child."""
        await self._channel.attach(sock)

    def _take(self, message: FromChild | None) -> None:
        self.has_spoken |= message is not None
        last = self._messages[-1] if self._messages else None
        if isinstance(message, Loaded) and isinstance(last, Loaded):  # one look at the disk will do for both
            last.files.extend(message.files)
        else:
            self._messages.append(message)
            self._arrived.set()

    def _is_garbled(self, error: WireError) -> None:
        self.garbled = str(error)

    async def next(self) -> FromChild | None:
        """Return the next message."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        return self._messages.popleft()

    def close(self) -> None:
        """Stop listening."""
        self._channel.close()


@dataclass(frozen=True, slots=True)
class Asked:
    """A child that a zygote was asked for: its report to be, and the read end of its output."""

    report: Report
    output_fd: int

    def close(self) -> None:
        """Give back the descriptors."""
        self.report.close()
        os.close(self.output_fd)


@dataclass(frozen=True, slots=True)
class Forked:
    """A child that a zygote forked for us: its report, the read end of its output, and the process."""

    report: Report
    output_fd: int
    child: Child


@dataclass(slots=True, eq=False)
class Zygote:
    """One zygote. ``modules`` in order of import, beyond what the root has."""

    number: int
    modules: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    child: Child | None = None
    channel: Channel | None = None
    output: OutputLines = field(default_factory=lambda: OutputLines(None))
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_usable(self) -> bool:
        """Whether it can be asked to fork."""
        return self.channel is not None and self.channel.is_open


class ZygoteTree:
    """The root zygote and those below it."""

    def __init__(self, project: Path, env: Mapping[str, str], tasks: TaskOwner) -> None:
        self._project = project
        self._env = env
        self._tasks = tasks
        self._root = Zygote(0)
        self._by_modules: dict[frozenset[str], Zygote] = {}
        self._making: dict[frozenset[str], asyncio.Task[None]] = {}
        self._retired: set[Zygote] = set()  # they finish what they were asked
        self._root_started = asyncio.Event()
        self._left_out: set[str] = set()
        self._numbers = 0
        self._stopping = False

    async def start(self) -> None:
        """Start the root zygote, and keep one running."""
        await self._start_root()
        self._tasks.start(self._keep_root(), name="zygote.root")

    async def _start_root(self) -> None:
        ours, theirs = pair()
        output, write_end = os.pipe2(os.O_CLOEXEC)
        with theirs:
            try:
                self._root.child = spawn(
                    python_argv("tqserver.worker.zygote", "--control", str(theirs.fileno())),
                    cwd=self._project,
                    env=self._env,
                    stdout=write_end,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    die_with_us=False,  # it is the guard that clears up when control is killed
                )
            finally:
                os.close(write_end)
        await self._attach(self._root, ours, output)
        self._root_started.set()
        log.info("zygote.started", pid=self._root.child.pid)

    async def _attach(self, zygote: Zygote, sock: socket.socket, output_fd: int) -> None:
        zygote.channel = Channel(_unexpected, zygote.closed.set)
        await zygote.channel.attach(sock)
        read_output(output_fd, zygote.output)

    async def _keep_root(self) -> None:
        policy = RestartPolicy()
        while True:
            assert self._root.child is not None
            begun = clock.monotonic()
            code = await self._root.child.wait()
            if self._stopping:
                return
            log.error("zygote.exited", status=code, output=self._root.output.text())
            now = clock.monotonic()
            await asyncio.sleep(policy.died(now - begun, now))
            self._root = Zygote(0)
            await self._start_root()

    # --- forking ------------------------------------------------------------------------------------------

    async def fork(self, spec: PageSpec, modules: Sequence[str]) -> tuple[Forked, Zygote]:
        """Fork a worker from the zygote that has the most of ``modules`` and none beside.

        If none has them all, one is made: the first of a pool's workers takes as long as it would alone, and all of
        them share what was imported. A zygote that ends with the request unread costs nothing: the next is asked.
        If the root has ended, its successor is waited for. Raises :class:`StartError` if no process can be forked.
        """
        try:
            async with asyncio.timeout(FORK_TIMEOUT_SECONDS):
                return await self._fork(spec, modules)
        except TimeoutError:
            raise StartError(
                f"no worker was forked within {FORK_TIMEOUT_SECONDS:g} s: no zygote was ready",
                remedy="the server's log says why (zygote.exited, zygote.failed); then save again",
            ) from None

    async def _fork(self, spec: PageSpec, modules: Sequence[str]) -> tuple[Forked, Zygote]:
        wanted = frozenset(modules) - self._left_out
        self.learn(modules)
        for _ in range(FORK_ATTEMPTS):
            zygote = await self._nearest(wanted)
            try:
                asked = await self._ask(zygote, Fork(page=spec))
            except ConnectionError:
                await zygote.closed.wait()
                continue
            except OSError as error:
                raise StartError(
                    f"no worker can be forked: {error.strerror}",
                    remedy="check the limits of open files and of memory (ulimit -a)",
                ) from error
            child = await self._started(zygote, asked)
            if child is not None:
                return Forked(asked.report, asked.output_fd, child), zygote
            log.warning("zygote.asked_again", page=spec.page, zygote=zygote.number, reason="it ended before it forked")
        raise StartError(
            f"no worker can be forked: {FORK_ATTEMPTS} zygotes ended before they did",
            remedy="the server's log says why (zygote.exited); then save again",
        )

    async def _ask(self, zygote: Zygote, message: Fork, extra: Sequence[int] = ()) -> Asked:
        if zygote.channel is None:
            raise ConnectionResetError("the zygote is not running")
        ours, theirs = pair()
        output, write_end = os.pipe2(os.O_CLOEXEC)
        asked = Asked(Report(), output)
        try:
            await asked.report.attach(ours)
            zygote.channel.send_with(to_zygote.encode(message), [theirs.fileno(), write_end, *extra])
        except BaseException:
            asked.close()
            raise
        finally:
            theirs.close()
            os.close(write_end)
        return asked  # nothing may be awaited between the sending and this: the child would be nobody's

    async def _started(self, zygote: Zygote, asked: Asked) -> Child | None:
        """Return the child that was asked for, None if the zygote has ended without. Raises StartError."""
        deadline = asyncio.get_running_loop().call_later(ANSWER_SECONDS, _end_silent, zygote, asked)
        try:
            message = await asked.report.next()
        except asyncio.CancelledError:
            self._tasks.start(self._abandon(asked), name="zygote.abandoned")
            raise
        finally:
            deadline.cancel()
        if isinstance(message, Started):
            return reaper().adopt(message.pid)
        asked.close()
        if isinstance(message, Failed):
            raise StartError(message.message, remedy=message.remedy)
        return None

    @staticmethod
    async def _abandon(asked: Asked) -> None:
        """Nobody wants this child any more, which may be on its way: end it when it comes."""
        message = await asked.report.next()
        if isinstance(message, Started):
            child = reaper().adopt(message.pid)
            child.send(signal.SIGKILL)
            child.kill_group()
        asked.close()

    async def _nearest(self, wanted: frozenset[str]) -> Zygote:
        making = self._making.get(wanted)
        if making is not None:  # it has begun to import what the worker would have to import itself
            await asyncio.wait([making])
        best: Zygote | None = None
        for modules, zygote in self._by_modules.items():
            if zygote.is_usable and modules <= wanted and (best is None or len(modules) > len(best.modules)):
                best = zygote
        return best or await self._usable_root()

    async def _usable_root(self) -> Zygote:
        while not self._root.is_usable:
            self._root_started.clear()
            await self._root_started.wait()
        return self._root

    # --- learning -----------------------------------------------------------------------------------------

    def learn(self, modules: Sequence[str]) -> None:
        """Workers have, or will have, these modules from outside the project: hold them ready for the next."""
        wanted = frozenset(modules) - self._left_out
        if not wanted or self._stopping or wanted in self._making:
            return
        existing = self._by_modules.get(wanted)
        if existing is not None and existing.is_usable:
            return
        if existing is None and len(self._by_modules) >= MOST_ZYGOTES:
            return
        ordered = tuple(module for module in dict.fromkeys(modules) if module in wanted)
        task = self._tasks.start(self._make(ordered), name="zygote.preload")
        self._making[wanted] = task
        task.add_done_callback(lambda _: self._making.pop(wanted, None))

    def keep_only(self, sets: Sequence[Sequence[str]]) -> None:
        """Retire the zygotes that hold none of these sets of modules.

        By the end of their socket, not by a signal: a request to fork may be on its way to them.
        """
        wanted = {frozenset(modules) - self._left_out for modules in sets}
        for modules in [modules for modules in self._by_modules if modules not in wanted]:
            zygote = self._by_modules.pop(modules)
            if zygote.channel is not None:
                zygote.channel.close()
            self._retired.add(zygote)

    async def _make(self, modules: tuple[str, ...]) -> None:
        """Fork a zygote that imports ``modules``; again without those that turn out to start threads."""
        while modules:
            self._numbers += 1
            zygote = Zygote(self._numbers, modules)
            ready = await self._preload(zygote)
            if ready is None:
                return
            if not ready.left_out:
                self._by_modules[frozenset(modules)] = zygote
                return
            self._left_out.update(ready.left_out)
            log.warning(
                "zygote.left_out",
                modules=",".join(ready.left_out),
                reason="starts a thread at import, which a fork would lose; each worker imports it itself",
            )
            modules = tuple(module for module in modules if module not in self._left_out)

    async def _preload(self, zygote: Zygote) -> Ready | None:
        ours, theirs = pair()
        preload = Preload(zygote.number, list(zygote.modules), sorted(self._left_out))
        try:
            with theirs:
                asked = await self._ask(await self._usable_root(), Fork(preload=preload), [theirs.fileno()])
        except OSError as error:
            ours.close()
            log.error("zygote.failed", error=str(error))
            return None
        await self._attach(zygote, ours, asked.output_fd)
        try:
            async with asyncio.timeout(PRELOAD_TIMEOUT_SECONDS):
                return await self._preloaded(zygote, asked.report)
        except TimeoutError:
            log.error("zygote.failed", error=f"imports took more than {PRELOAD_TIMEOUT_SECONDS:g} s")
            if zygote.child is not None:
                zygote.child.send(signal.SIGKILL)
            return None
        finally:
            asked.report.close()

    async def _preloaded(self, zygote: Zygote, report: Report) -> Ready | None:
        while True:
            match await report.next():
                case Started(pid=pid):
                    zygote.child = reaper().adopt(pid)
                    self._tasks.start(self._watch(zygote, zygote.child), name=f"zygote.{zygote.number}")
                case Ready() as ready:
                    return ready
                case Failed(message=message):
                    log.error("zygote.failed", error=message, output=zygote.output.text())
                    return None
                case None:
                    log.error("zygote.failed", error="it exited", output=zygote.output.text())
                    return None
                case _:
                    pass

    async def _watch(self, zygote: Zygote, child: Child) -> None:
        code = await child.wait()
        self._retired.discard(zygote)
        if not self._stopping and zygote in self._by_modules.values():
            self._by_modules.pop(frozenset(zygote.modules))
            log.error("zygote.exited", status=code, output=zygote.output.text())

    async def close(self) -> None:
        """Stop them all; the root last, since it is the guard of the others."""
        self._stopping = True
        for making in list(self._making.values()):
            making.cancel()
        zygotes = [*self._by_modules.values(), *self._retired, self._root]
        for zygote in zygotes:
            if zygote.child is not None:
                zygote.child.send(signal.SIGTERM)
        for zygote in zygotes:
            if zygote.child is not None:
                try:
                    await asyncio.wait_for(zygote.child.wait(), 1.0)
                except TimeoutError:
                    zygote.child.send(signal.SIGKILL)
                    await zygote.child.wait()


def _end_silent(zygote: Zygote, asked: Asked) -> None:
    """It hangs: whoever waits for it asks another once it has ended."""
    if zygote.child is not None and not asked.report.has_spoken:
        log.error("zygote.silent", zygote=zygote.number, pid=zygote.child.pid, remedy="killed; another is asked")
        zygote.child.send(signal.SIGKILL)


def _unexpected(payload: bytes) -> None:
    """Zygotes say nothing: what they fork does."""
    raise ValueError(f"a zygote said {payload!r}")


def read_output(descriptor: int, lines: OutputLines) -> None:
    """Feed what is written into a pipe to ``lines`` until its last writer has closed it."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)

    def read() -> None:
        try:
            received = os.read(descriptor, 262144)
        except BlockingIOError:
            return
        if received:
            lines.feed(received)
            return
        loop.remove_reader(descriptor)
        os.close(descriptor)
        lines.finish()

    loop.add_reader(descriptor, read)
