"""The proxy processes: started, kept at their number, spoken to over their links.

Control keeps the listening sockets, so a proxy can die or be replaced and no connection is refused: the kernel
queues it until the next proxy accepts.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqserver.control.entrance import Entrance
from tqserver.control.plan import RestartPolicy
from tqserver.host import clock
from tqserver.host.channel import Channel
from tqserver.host.log import OutputLines, get_logger
from tqserver.host.process import Child, python_argv, spawn
from tqserver.host.sockets import pair
from tqserver.host.tasks import TaskOwner
from tqserver.wire.codec import from_json
from tqserver.wire.messages import (
    Acknowledged,
    Certificate,
    Cut,
    Drained,
    FromProxy,
    Hello,
    Leave,
    Ping,
    Pong,
    Snapshot,
    ToProxy,
    from_proxy,
    to_proxy,
)

LEAVE_GRACE_SECONDS = 1.0  # for the exit itself, after the last exchange
HELLO_SECONDS = 60.0  # from spawn to its first word: the disk may be slow
ANSWER_SECONDS = 10.0  # to a snapshot or a ping
PING_SECONDS = 5.0  # after the last answer
log = get_logger("proxies")


class Proxy:
    """One proxy process as control sees it.

    It owes an answer to whatever asks for one, to its start too; one that is silent past the deadline is killed, since
    clients would wait for it, and each save for its acknowledgement.
    """

    def __init__(self, name: str, on_message: Callable[[Proxy, FromProxy], None]) -> None:
        self.name = name
        self.child: Child | None = None
        self.started_at = clock.monotonic()
        self.said_hello = False
        self.first_version = 0  # the first snapshot version that it routed by
        self.acknowledged = 0  # the latest one
        self.drained: set[int] = set()  # workers it reported as drained
        self._on_message = on_message
        self.channel = Channel(self._on_payload, lambda: None)
        self._output_fd = -1
        self._output = OutputLines(None)
        self._owed = 0  # answers
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, entrance: Entrance, project: Path, env: Mapping[str, str]) -> None:
        """Spawn the process and attach its link."""
        ours, theirs = pair()
        self._output_fd, write_end = os.pipe2(os.O_CLOEXEC)
        descriptors = [theirs.fileno(), *(listener.fileno() for listener in entrance.sockets)]
        arguments = ["--name", self.name, "--link", str(theirs.fileno()), *entrance.arguments]
        stdout = _own_stdout()  # where the access log may go; its own goes to our log
        arguments += ["--stdout", str(stdout)]
        with theirs:
            try:
                self.child = spawn(
                    python_argv("tqserver.proxy", *arguments),
                    cwd=project,
                    env=env,
                    stdout=write_end,
                    stderr=subprocess.STDOUT,
                    pass_fds=[*descriptors, stdout],
                )
            finally:
                os.close(stdout)
                os.close(write_end)
        os.set_blocking(self._output_fd, False)
        asyncio.get_running_loop().add_reader(self._output_fd, self._read_output)
        await self.channel.attach(ours)
        self._owes(HELLO_SECONDS)

    def send(self, message: ToProxy) -> None:
        """Send a message; to a proxy that is gone, nothing."""
        self.channel.send(to_proxy.encode(message))
        if isinstance(message, Snapshot | Ping):
            self._owes(ANSWER_SECONDS)

    def _owes(self, seconds: float) -> None:
        self._owed += 1
        if self._owed == 1:
            self._after(seconds, self._is_silent)

    def _has_answered(self) -> None:
        self._owed -= 1
        if self._owed:
            self._after(ANSWER_SECONDS, self._is_silent)
        else:
            self._after(PING_SECONDS, lambda: self.send(Ping()))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _is_silent(self) -> None:
        assert self.child is not None
        log.error(
            "proxy.silent",
            proxy=self.name,
            pid=self.child.pid,
            acknowledged=self.acknowledged,
            remedy="killed; its successor takes its place",
        )
        self.child.send(signal.SIGKILL)

    def _on_payload(self, payload: bytes) -> None:
        message = from_proxy.decode(payload)
        if isinstance(message, Hello | Acknowledged | Pong):
            self._has_answered()
        match message:
            case Hello():
                self.said_hello = True
            case Acknowledged(version=version):
                self.first_version = self.first_version or version
                self.acknowledged = max(self.acknowledged, version)
            case Drained(worker=worker):
                self.drained.add(worker)
            case _:
                pass
        self._on_message(self, message)

    def _read_output(self) -> None:
        try:
            received = os.read(self._output_fd, 65536)
        except BlockingIOError:
            return
        if not received:
            self.close_output()
            return
        self._output.feed(received)
        while self._output.last:
            _relay(self.name, self._output.last.popleft())

    def close_output(self) -> None:
        """Stop reading what the process prints."""
        if self._output_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._output_fd)
            os.close(self._output_fd)
            self._output_fd = -1

    def close(self) -> None:
        """It has ended: stop listening to it and waiting for it."""
        if self._timer is not None:
            self._timer.cancel()
        self.close_output()
        self.channel.close()


def _own_stdout() -> int:
    try:
        return os.dup(1)
    except OSError:  # it was closed before we started
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _relay(proxy: str, line: str) -> None:
    """Pass on a proxy's log line; what is not JSON is a traceback, and an error."""
    try:
        fields = from_json(line)
        event, level = str(fields.pop("event")), str(fields.pop("level", "info"))
    except (ValueError, KeyError, AttributeError, TypeError):
        log.error("proxy.output", proxy=proxy, output=line)
        return
    fields.pop("timestamp", None)
    fields.pop("part", None)
    getattr(log, level, log.info)(event, proxy=proxy, **fields)


class _Place:
    """A proxy that shall run: its process is replaced when it ends, until the place is given up."""

    def __init__(self, name: str, entrance: Entrance) -> None:
        self.name = name
        self.entrance = entrance
        self.is_given_up = False
        self.proxy: Proxy | None = None


class ProxyPool:
    """Keeps the proxies running.

    ``on_message`` gets what they say; ``on_end`` is called when one has gone, since what was waited for from it
    will not come any more.
    """

    def __init__(
        self,
        count: int,
        entrance: Entrance,
        project: Path,
        env: Mapping[str, str],
        tasks: TaskOwner,
        on_message: Callable[[Proxy, FromProxy], None],
        on_end: Callable[[Proxy], None],
    ) -> None:
        self._first = (count, entrance)
        self._project = project
        self._env = env
        self._tasks = tasks
        self._on_message = on_message
        self._on_end = on_end
        self._numbers = itertools.count()
        self._places: list[_Place] = []
        self.alive: list[Proxy] = []

    def start(self) -> None:
        """Start all of them."""
        self.reshape(*self._first)

    def reshape(self, count: int, entrance: Entrance) -> tuple[int, list[Proxy]]:
        """Have ``count`` proxies accept at ``entrance``; start those that are missing.

        Returns how many were started, and those that are too many now, to be dismissed when the new ones route.
        """
        fitting = [place for place in self._places if place.entrance == entrance]
        surplus = [place for place in self._places if place not in fitting[:count]]
        for place in surplus:
            place.is_given_up = True
            self._places.remove(place)
        missing = count - len(self._places)
        for _ in range(missing):
            place = _Place(f"proxy-{next(self._numbers)}", entrance)
            self._places.append(place)
            self._tasks.start(self._keep(place), name=place.name)
        return missing, [place.proxy for place in surplus if place.proxy in self.alive and place.proxy is not None]

    async def _keep(self, place: _Place) -> None:
        policy = RestartPolicy()
        while not place.is_given_up:
            proxy = place.proxy = Proxy(place.name, self._on_message)
            await proxy.start(place.entrance, self._project, self._env)
            assert proxy.child is not None
            self.alive.append(proxy)
            log.info("proxy.started", proxy=place.name, pid=proxy.child.pid)
            if place.is_given_up:  # while it was being started
                proxy.send(Leave(0.0))
            code = await proxy.child.wait()
            self.alive.remove(proxy)
            proxy.close()
            self._on_end(proxy)
            if place.is_given_up:
                return
            now = clock.monotonic()
            delay = policy.died(now - proxy.started_at, now)
            log.error("proxy.exited", proxy=place.name, pid=proxy.child.pid, status=code, restart_in_seconds=delay)
            await asyncio.sleep(delay)

    def broadcast(self, message: Snapshot | Certificate | Cut) -> None:
        """Send to every proxy that has said hello; the others get the latest snapshot when they do."""
        for proxy in self.alive:
            if proxy.said_hello:
                proxy.send(message)

    async def dismiss(self, proxies: Sequence[Proxy], deadline_seconds: float, *, patient: bool) -> None:
        """Let these finish what is in flight and exit; kill those that do not by the deadline.

        ``patient``: others accept from the same sockets (see :class:`Leave`).
        """
        for proxy in proxies:
            proxy.send(Leave(deadline_seconds, patient))
        try:
            async with asyncio.timeout(deadline_seconds + LEAVE_GRACE_SECONDS):
                for proxy in proxies:
                    if proxy.child is not None:
                        await proxy.child.wait()
        except TimeoutError:
            log.warning("proxy.late", deadline_seconds=deadline_seconds, remedy="killed")
            _kill(proxies)

    async def leave(self, deadline_seconds: float, *, patient: bool) -> None:
        """Dismiss all of them."""
        self._give_up_all()
        await self.dismiss(list(self.alive), deadline_seconds, patient=patient)

    def kill(self) -> None:
        """Kill those that are still there."""
        self._give_up_all()
        _kill(self.alive)

    def _give_up_all(self) -> None:
        for place in self._places:
            place.is_given_up = True


def _kill(proxies: Sequence[Proxy]) -> None:
    for proxy in proxies:
        if proxy.child is not None:
            proxy.child.send(signal.SIGKILL)
