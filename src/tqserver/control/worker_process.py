"""One worker: a process that serves one revision, from spawn to reaped.

Started in one of two ways that end in the same: forked from a zygote (Python pages), or executed (all others).
Ready is an observed fact: ``Ready`` on the report socket, ``READY=1`` on NOTIFY_SOCKET (sd_notify(3)), or an answer
to ``GET /health``. Stopped is SIGTERM, then after the grace SIGKILL to its whole process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tqserver.control.health import probe
from tqserver.control.zygotes import Forked, Zygote, ZygoteTree, read_output
from tqserver.host import clock, descent
from tqserver.host.cgroup import Cgroup
from tqserver.host.log import OutputLines, get_logger
from tqserver.host.process import Child, spawn
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import HostError, Location, StartError
from tqserver.model.lifecycle import WORKER_MOVES, Cause, WorkerState, advance
from tqserver.wire.messages import Failed, Identity, Loaded, PageSpec, Ready

PROBE_SECONDS = 2.0  # for one answer
FIRST_PROBE_AFTER_SECONDS = 0.005
LONGEST_PROBE_PAUSE_SECONDS = 0.1
_LONGEST_REFUSAL = 4096  # of a limit: one line
_LEAVE_IT_ALONE = "a page must leave the descriptors alone that it has not opened"
log = get_logger("worker_process")


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What to start. ``argv`` empty: fork ``spec`` from a zygote that has ``modules``.

    ``port`` is 0 where none is needed. ``socket`` and ``notify`` are paths at which nothing is yet; ``claim`` gives
    what another user has made at ``socket`` a name of ours.
    """

    worker: int
    spec: PageSpec
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    socket: Path
    notify: Path
    port: int
    health_path: str
    start_timeout_seconds: float
    modules: tuple[str, ...] = ()
    cgroup: Cgroup | None = None
    claim: Callable[[Path, Identity], Path] | None = None


class WorkerProcess:
    """A worker. ``endpoint`` is known once it is ready.

    ``on_exit`` is called once, after the process has been reaped, unless it was never started.
    """

    def __init__(
        self,
        order: WorkerOrder,
        output: OutputLines,
        tasks: TaskOwner,
        on_exit: Callable[[WorkerProcess], None],
        on_files: Callable[[WorkerProcess, list[str]], None],
    ) -> None:
        self.order = order
        self.number = order.worker
        self.state = WorkerState.STARTING
        self.endpoint = ""
        self.child: Child | None = None
        self.output = output
        self.modules: tuple[str, ...] = ()  # what a Python worker has imported from outside the project
        self.ready_at = 0.0
        self.ended_from = WorkerState.STARTING  # what it was doing when it exited
        self.cause = Cause.DIED  # why it exited, unless it was told to
        self._verdict = ""
        self._socket: Path | None = None  # where proxies find it
        self._refusal = ""
        self._family: set[descent.Process] = set()  # what it had started when it was told to end
        self._tasks = tasks
        self._on_exit = on_exit
        self._on_files = on_files
        self._exited = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id, 0 if there is none."""
        return self.child.pid if self.child is not None else 0

    @property
    def cgroup(self) -> Cgroup | None:
        """Where the kernel holds it to its memory limit."""
        return self.order.cgroup

    @property
    def digest(self) -> str:
        """The artifact that it runs from."""
        return Path(self.order.spec.artifact).name

    @property
    def lived_seconds(self) -> float:
        """How long it has been ready; 0 if it never was."""
        return clock.monotonic() - self.ready_at if self.ready_at else 0.0

    def move(self, wanted: WorkerState) -> None:
        """Change the state by the table."""
        self.state = advance(WORKER_MOVES, self.state, wanted)

    # --- start --------------------------------------------------------------------------------------------

    async def start(self, zygotes: ZygoteTree) -> None:
        """Start the process and return when it is ready. Raises :class:`StartError`; then nothing is left."""
        limit = self.order.start_timeout_seconds
        try:
            if self.order.argv:
                async with asyncio.timeout(limit):
                    await self._execute()
            else:
                forked, zygote = await zygotes.fork(self.order.spec, self.order.modules)
                async with asyncio.timeout(limit):  # from here on: that a zygote starts is not the page's time
                    await self._follow_start(forked, zygote)
        except TimeoutError:
            error = StartError(
                f"it did not become ready within {limit:g} s{self._refusal}{self._heard_elsewhere()}",
                remedy=self._late_remedy(),
                output=self.output.text(),
            )
            self._verdict = error.message
            await self.stop(0.0)
            raise error from None
        except BaseException:
            await self.stop(0.0)
            raise
        self.ready_at = clock.monotonic()
        self.move(WorkerState.READY)

    async def _follow_start(self, forked: Forked, zygote: Zygote) -> None:
        self._has_child(forked.child)
        read_output(forked.output_fd, self.output)
        try:
            await self._until_ready(forked, zygote)
        except BaseException:
            forked.report.close()
            raise
        self._tasks.start(self._listen(forked), name=f"worker-{self.number}.report")

    async def _until_ready(self, forked: Forked, zygote: Zygote) -> None:
        while True:
            match await forked.report.next():
                case Ready(modules=modules, files=files):
                    try:
                        self.endpoint = f"unix:{self._claimed()}"
                    except HostError as error:
                        raise StartError(error.message, remedy=error.remedy) from None
                    self.modules = self._for_zygotes((*zygote.modules, *modules))
                    self._reads(files)
                    return
                case Loaded(files=files):
                    self._reads(files)
                case Failed() as failed:
                    self._verdict = failed.message
                    raise _start_error(failed)
                case None if forked.report.garbled:
                    raise StartError(_garbled(forked.report.garbled), remedy=_LEAVE_IT_ALONE)
                case None:
                    await self._raise_exited()

    async def _listen(self, forked: Forked) -> None:
        while (message := await forked.report.next()) is not None:
            if isinstance(message, Loaded):
                self._reads(message.files)
        forked.report.close()
        if forked.report.garbled:  # what it reads would not be heard of, nor followed
            self.kill(Cause.DIED, _garbled(forked.report.garbled))

    def _reads(self, files: list[str]) -> None:
        """What is not of the project is none of ours, whatever the worker says."""
        project = self.order.spec.project
        tops = (project + os.sep, os.path.realpath(project) + os.sep)
        if of_project := [file for file in files if file.startswith(tops) and _is_plain(file)]:
            self._on_files(self, of_project)

    async def _execute(self) -> None:
        identity = self.order.spec.limits.identity
        with _datagram_socket(self.order.notify) as notify:
            try:
                if identity is not None:
                    os.chown(self.order.notify, identity.uid, identity.gid)
                self._has_child(self._spawned())
                await self._first_of_ready_and_exit(notify)
            finally:
                self.order.notify.unlink(missing_ok=True)

    def _spawned(self) -> Child:
        output, write_end = os.pipe2(os.O_CLOEXEC)
        error: OSError | None = None
        try:
            child = spawn(
                self.order.argv,
                cwd=self.order.spec.project,
                env=self.order.environment,
                stdout=write_end,
                stderr=subprocess.STDOUT,
                limits=self.order.spec.limits,
            )
        except OSError as refused:
            error = refused
        finally:
            os.close(write_end)
        if error is not None:
            said = os.read(output, _LONGEST_REFUSAL).decode(errors="replace").strip()
            os.close(output)
            raise StartError(
                f"cannot execute {self.order.argv[0]}: {said or error.strerror}", remedy=self._right_remedy()
            )
        read_output(output, self.output)
        return child

    def _right_remedy(self) -> str:
        identity = self.order.spec.limits.identity
        return (
            f"user {identity.name} must be allowed to pass each directory above it" if identity else "check its rights"
        )

    def _for_zygotes(self, modules: tuple[str, ...]) -> tuple[str, ...]:
        """What a zygote, which is the server's user, may import for it: nothing for another's (decision 15)."""
        return modules if self.order.spec.limits.identity is None else ()

    async def _first_of_ready_and_exit(self, notify: socket.socket) -> None:
        exited = self._tasks.start(self._exited.wait(), name=f"worker-{self.number}.exit")
        said = self._tasks.start(_said_ready(notify), name=f"worker-{self.number}.notify")
        answered = self._tasks.start(self._answers(), name=f"worker-{self.number}.probe")
        try:
            await asyncio.wait((exited, said, answered), return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                await self._raise_exited()
            self.endpoint = await answered if answered.done() else await self._listening_endpoint()
        finally:
            for task in (exited, said, answered):
                task.cancel()

    def _claimed(self) -> Path:
        """Return where proxies find the socket that the worker has made. Raises :class:`HostError`."""
        if self._socket is None:
            identity, claim = self.order.spec.limits.identity, self.order.claim
            self._socket = claim(self.order.socket, identity) if claim and identity else self.order.socket
        return self._socket

    def _endpoints(self) -> list[str]:
        endpoints = []
        if self.order.socket.exists():
            try:
                endpoints = [f"unix:{self._claimed()}"]
            except HostError as error:  # it may make a right one yet
                self._refusal = f"; {error.message}"
        return [*endpoints, f"tcp:127.0.0.1:{self.order.port}"] if self.order.port else endpoints

    async def _answers(self) -> str:
        """Return the endpoint that first answers a probe."""
        pause = FIRST_PROBE_AFTER_SECONDS
        while True:
            for endpoint in self._endpoints():
                if not await probe(endpoint, self.order.health_path, PROBE_SECONDS):
                    return endpoint
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PROBE_PAUSE_SECONDS)

    async def _listening_endpoint(self) -> str:
        """It said READY=1: return where a connection is accepted; what it says of itself is believed."""
        while True:
            for endpoint in self._endpoints():
                if await _accepts(endpoint):
                    return endpoint
            await asyncio.sleep(FIRST_PROBE_AFTER_SECONDS)

    def _has_child(self, child: Child) -> None:
        self.child = child
        self._tasks.start(self._watch(child), name=f"worker-{self.number}.wait")

    async def _watch(self, child: Child) -> None:
        await child.wait()
        child.kill_group()  # what it forked and left behind
        if strays := descent.kill(self._family):
            log.info("leftovers.killed", page=self.order.spec.page, worker=self.number, pids=strays)
        if not self._verdict and self.cgroup is not None and self.cgroup.was_out_of_memory():
            self._verdict = "memory limit: the kernel has killed it"
        self.output.finish()
        if self.state is not WorkerState.EXITED:
            self.ended_from = self.state
            self.move(WorkerState.EXITED)
        self._exited.set()
        for path in {self.order.socket, self._socket or self.order.socket}:
            path.unlink(missing_ok=True)
        self._on_exit(self)

    async def _raise_exited(self) -> None:
        if self.child is not None:
            await self._exited.wait()
        raise StartError(
            f"it exited before it was ready ({self.exit_reason()})",
            remedy="its output says why",
            output=self.output.text(),
        )

    def exit_reason(self) -> str:
        """Say how it ended: "status 3", "killed by SIGKILL", or what it was killed for."""
        if self._verdict:
            return self._verdict
        code = self.child.code if self.child is not None else None
        if code is None:
            return "no process"
        return f"status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def _heard_elsewhere(self) -> str:
        """Name the addresses it does listen on: most often the port is a fixed one."""
        if self.child is None or self.child.code is not None or not self.order.argv:
            return ""
        try:
            connections = psutil.Process(self.pid).net_connections("inet")
        except psutil.Error:
            return ""
        heard = sorted(f"{c.laddr.ip}:{c.laddr.port}" for c in connections if c.status == psutil.CONN_LISTEN)
        return f"; it listens on {', '.join(heard)}" if heard else ""

    def _late_remedy(self) -> str:
        if not self.order.argv:
            return "its import or startup takes too long; raise workers.default.start_timeout_seconds"
        where = f"127.0.0.1:{self.order.port} (PORT)" if self.order.port else "TQ_SOCKET"
        return (
            f"it must listen on {where} or on TQ_SOCKET, and say READY=1 or answer GET "
            f"{self.order.health_path} with a status below 500"
        )

    # --- stop ---------------------------------------------------------------------------------------------

    async def wait_exit(self, seconds: float) -> bool:
        """Wait so long for its exit; tell whether it has exited."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), seconds)
        return self._exited.is_set()

    def kill(self, cause: Cause, verdict: str) -> None:
        """End it at once, with all it started, for a reason that becomes its exit reason."""
        if self.child is not None and not self._exited.is_set():
            self.cause, self._verdict = cause, verdict
            self._note_family(self.child)
            self.child.send(signal.SIGKILL)
            self.child.kill_group()

    async def stop(self, grace_seconds: float) -> None:
        """End the process: SIGTERM, after the grace SIGKILL; return when it has been reaped."""
        if self.child is None:
            self.state = WorkerState.EXITED
            return
        if self.state not in (WorkerState.EXITED, WorkerState.STOPPING):
            self.move(WorkerState.STOPPING)
        self._note_family(self.child)
        if grace_seconds > 0:
            self.child.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), grace_seconds)
        if not self._exited.is_set():
            self._note_family(self.child)
            self.child.send(signal.SIGKILL)
            self.child.kill_group()
            await self._exited.wait()

    def _note_family(self, child: Child) -> None:
        """Before it ends: afterwards all that it has started are control's children, and nobody can tell whose."""
        if child.code is None:
            self._family |= descent.below(child.pid)


def _is_plain(path: str) -> bool:
    return "\0" not in path and os.path.normpath(path) == path


def _garbled(reason: str) -> str:
    return f"it wrote to the socket by which it reports what is no report: {reason}"


def _start_error(failed: Failed) -> StartError:
    location = Location(failed.file, failed.line) if failed.file else None
    error = StartError(failed.message, remedy=failed.remedy, location=location, output=failed.output)
    error.may_pass = failed.may_pass
    return error


def _datagram_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(str(path))
    return sock


async def _said_ready(notify: socket.socket) -> None:
    """Return when READY=1 has come (sd_notify(3): lines of VARIABLE=VALUE)."""
    loop = asyncio.get_running_loop()
    while b"READY=1" not in (await loop.sock_recv(notify, 4096)).split(b"\n"):
        pass


async def _accepts(endpoint: str) -> bool:
    kind, _, where = endpoint.partition(":")
    try:
        if kind == "unix":
            _, writer = await asyncio.open_unix_connection(where)
        else:
            host, _, port = where.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
