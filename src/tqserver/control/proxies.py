"""The proxy processes: started, kept at their number, spoken to over their links.

Control keeps the listening sockets, so a proxy can die or be replaced and no connection is refused: the kernel
queues it until the next proxy accepts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
    Cut,
    Drained,
    FromProxy,
    Hello,
    Leave,
    Snapshot,
    from_proxy,
    to_proxy,
)

LEAVE_GRACE_SECONDS = 1.0  # for the exit itself, after the last exchange
log = get_logger("proxies")


class Proxy:
    """One proxy process as control sees it."""

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

    async def start(self, listeners: Sequence[socket.socket], project: Path, env: Mapping[str, str]) -> None:
        """Spawn the process and attach its link."""
        ours, theirs = pair()
        self._output_fd, write_end = os.pipe2(os.O_CLOEXEC)
        descriptors = [theirs.fileno(), *(listener.fileno() for listener in listeners)]
        arguments = ["--name", self.name, "--link", str(theirs.fileno())]
        for listener in listeners:
            arguments += ["--listen", str(listener.fileno())]
        with theirs:
            try:
                self.child = spawn(
                    python_argv("tqserver.proxy", *arguments),
                    cwd=project,
                    env=env,
                    stdout=write_end,
                    stderr=subprocess.STDOUT,
                    pass_fds=descriptors,
                )
            finally:
                os.close(write_end)
        os.set_blocking(self._output_fd, False)
        asyncio.get_running_loop().add_reader(self._output_fd, self._read_output)
        await self.channel.attach(ours)

    def send(self, message: Snapshot | Cut | Leave) -> None:
        """Send a message; to a proxy that is gone, nothing."""
        self.channel.send(to_proxy.encode(message))

    def _on_payload(self, payload: bytes) -> None:
        message = from_proxy.decode(payload)
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


class ProxyPool:
    """Keeps ``count`` proxies running.

    ``on_message`` gets what they say; ``on_change`` is called when one has come or gone, since what was waited
    for from it may not come any more.
    """

    def __init__(
        self,
        count: int,
        listeners: Sequence[socket.socket],
        project: Path,
        env: Mapping[str, str],
        tasks: TaskOwner,
        on_message: Callable[[Proxy, FromProxy], None],
        on_change: Callable[[], None],
    ) -> None:
        self._count = count
        self._listeners = listeners
        self._project = project
        self._env = env
        self._tasks = tasks
        self._on_message = on_message
        self._on_change = on_change
        self._stopping = False
        self.alive: list[Proxy] = []

    async def start(self) -> None:
        """Start all of them."""
        for number in range(self._count):
            self._tasks.start(self._keep(f"proxy-{number}"), name=f"proxy-{number}")

    async def _keep(self, name: str) -> None:
        policy = RestartPolicy()
        while not self._stopping:
            proxy = Proxy(name, self._on_message)
            await proxy.start(self._listeners, self._project, self._env)
            assert proxy.child is not None
            self.alive.append(proxy)
            log.info("proxy.started", proxy=name, pid=proxy.child.pid)
            code = await proxy.child.wait()
            self.alive.remove(proxy)
            proxy.close_output()
            proxy.channel.close()
            self._on_change()
            if self._stopping:
                return
            delay = policy.died(clock.monotonic() - proxy.started_at)
            log.error("proxy.exited", proxy=name, pid=proxy.child.pid, status=code, restart_in_seconds=delay)
            await asyncio.sleep(delay)

    def broadcast(self, message: Snapshot | Cut) -> None:
        """Send to every proxy that has said hello; the others get the latest snapshot when they do."""
        for proxy in self.alive:
            if proxy.said_hello:
                proxy.send(message)

    async def leave(self, deadline_seconds: float) -> None:
        """Let all proxies finish what is in flight and exit; kill those that do not by the deadline."""
        self._stopping = True
        leaving = list(self.alive)
        for proxy in leaving:
            proxy.send(Leave(deadline_seconds))
        try:
            async with asyncio.timeout(deadline_seconds + LEAVE_GRACE_SECONDS):
                for proxy in leaving:
                    if proxy.child is not None:
                        await proxy.child.wait()
        except TimeoutError:
            log.warning("proxy.late", deadline_seconds=deadline_seconds, remedy="killed")
            self.kill()

    def kill(self) -> None:
        """Kill those that are still there."""
        self._stopping = True
        for proxy in self.alive:
            if proxy.child is not None:
                proxy.child.send(9)
