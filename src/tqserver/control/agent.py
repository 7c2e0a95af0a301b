"""Start and stop workers on a machine: the seam for scale-out.

A :class:`NodeAgent` knows artifacts by digest and workers by number, and is idempotent where it can be. The local
agent spawns processes here; what is above it sees endpoints only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqserver.build.registry import by_name
from tqserver.build.store import Store
from tqserver.control.output import OutputHub, both
from tqserver.control.worker_process import WorkerOrder, WorkerProcess
from tqserver.control.zygotes import ZygoteTree
from tqserver.host.cgroup import Cgroups
from tqserver.host.identity import environment_of, identity_of
from tqserver.host.log import OutputLines, page_log, show_printed
from tqserver.host.ports import PortPool
from tqserver.host.rundir import RunDirectory
from tqserver.host.tasks import TaskOwner
from tqserver.host.terminal import WorkerOutput
from tqserver.model.config import WorkerSettings
from tqserver.model.errors import HostError, StartError
from tqserver.model.pages import Page
from tqserver.wire.messages import Identity, Limits, PageSpec


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker shall serve. ``modules`` are hints for the zygote."""

    page: Page
    revision: int
    digest: str
    settings: WorkerSettings
    modules: tuple[str, ...] = ()


class NodeAgent(Protocol):
    """What control asks of a machine."""

    def has(self, digest: str) -> bool:
        """Tell whether the artifact is there."""
        ...

    def put(self, digest: str, bundle: Path) -> None:
        """Store an artifact; nothing if it is there."""
        ...

    async def start(self, spec: WorkerSpec, events: WorkerEvents) -> WorkerProcess:
        """Start a worker and return it ready. Raises :class:`~tqserver.model.errors.StartError`."""
        ...

    async def stop(self, worker: WorkerProcess, grace_seconds: float) -> None:
        """End a worker; nothing if it has ended."""
        ...

    def list(self) -> Sequence[WorkerProcess]:
        """Return the workers that are there, in any state but exited."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """Whom to tell about a worker."""

    started: Callable[[WorkerProcess], None]
    exited: Callable[[WorkerProcess], None]
    files: Callable[[WorkerProcess, list[str]], None]


class LocalAgent:
    """Workers as processes of this machine."""

    def __init__(
        self,
        project: Path,
        mode: str,
        store: Store,
        run: RunDirectory,
        ports: PortPool,
        zygotes: ZygoteTree,
        environment: Mapping[str, str],
        grace_seconds: float,
        tasks: TaskOwner,
        output: OutputHub,
        cgroups: Cgroups,
    ) -> None:
        self._project = project
        self._mode = mode
        self._store = store
        self._run = run
        self._ports = ports
        self._zygotes = zygotes
        self._environment = environment
        self._grace_seconds = grace_seconds
        self._tasks = tasks
        self._output = output
        self._cgroups = cgroups
        self._workers: dict[int, WorkerProcess] = {}
        self._numbers = 0

    def configure(self, mode: str, grace_seconds: float) -> None:
        """Start workers by these from now on."""
        self._mode = mode
        self._grace_seconds = grace_seconds

    def has(self, digest: str) -> bool:
        """Tell whether the artifact is in the store."""
        return self._store.has(digest)

    def put(self, digest: str, bundle: Path) -> None:
        """Publish a directory as an artifact."""
        self._store.publish(bundle, digest)

    def list(self) -> Sequence[WorkerProcess]:
        """Return the workers that are there."""
        return list(self._workers.values())

    async def start(self, spec: WorkerSpec, events: WorkerEvents) -> WorkerProcess:
        """Start a worker and return it ready."""
        order = self._order(spec)

        def exited(worker: WorkerProcess) -> None:
            self._forget(order)
            events.exited(worker)

        file = page_log(self._project, spec.settings.log_file, spec.page.name)
        shown = WorkerOutput(spec.page.route, show_printed)
        output = OutputLines(file, both(self._output.of(spec.page.name), shown.take))
        worker = WorkerProcess(order, output, self._tasks, exited, events.files)
        self._workers[worker.number] = worker
        events.started(worker)
        try:
            await worker.start(self._zygotes)
            shown.ready()
        except StartError as error:
            shown.failed(f"{error}\n{error.output}")
            raise
        finally:
            if worker.child is None:  # it never was a process: nobody will be told that it exited
                self._forget(order)
        return worker

    def _forget(self, order: WorkerOrder) -> None:
        self._workers.pop(order.worker, None)
        self._ports.give_back(order.port)
        if order.cgroup is not None:
            self._cgroups.end(order.cgroup)

    async def stop(self, worker: WorkerProcess, grace_seconds: float) -> None:
        """End a worker."""
        await worker.stop(grace_seconds)

    # --- orders -------------------------------------------------------------------------------------------

    def _order(self, spec: WorkerSpec) -> WorkerOrder:
        page, settings = spec.page, spec.settings
        identity = self._identity(settings.user)
        self._numbers += 1
        artifact = self._store.path_of(spec.digest)
        launch = by_name(page.runtime).launch(page, artifact)
        socket, notify = self._sockets(identity)
        if identity is not None:
            self._store.grant(spec.digest, identity.gid)
        cgroup = self._cgroups.make(self._numbers, settings.memory_limit)
        limits = Limits(settings.open_files, str(cgroup.path) if cgroup is not None else "", identity)
        port = self._ports.take() if launch.needs_port else 0
        contract = environment_of(identity) | self._contract(spec, socket, port) | dict(launch.environment)
        page_spec = PageSpec(
            worker=self._numbers,
            page=page.name,
            route=page.route,
            revision=spec.revision,
            project=str(self._project),
            directory=page.directory,
            entry=page.entry,
            artifact=str(artifact),
            socket=str(socket),
            mode=self._mode,
            environment=contract,
            shutdown_grace_seconds=self._grace_seconds,
            limits=limits,
        )
        return WorkerOrder(
            worker=self._numbers,
            spec=page_spec,
            argv=launch.argv,
            environment={**self._environment, **contract, "NOTIFY_SOCKET": str(notify)},
            socket=socket,
            notify=notify,
            port=port,
            health_path=settings.health_path,
            start_timeout_seconds=settings.start_timeout_seconds,
            modules=spec.modules if identity is None else (),
            cgroup=cgroup,
            claim=self._run.take_over if identity is not None else None,
        )

    def _sockets(self, identity: Identity | None) -> tuple[Path, Path]:
        """Return the paths for a worker's own socket and for what it says of itself."""
        name, notify = f"w{self._numbers}", self._run.socket(f"n{self._numbers}")
        return self._run.socket(name) if identity is None else self._run.socket_of(identity, name), notify

    @staticmethod
    def _identity(user: str) -> Identity | None:
        """The configuration was judged when it was read; users come and go."""
        try:
            return identity_of(user)
        except HostError as error:
            raise StartError(error.message, remedy=error.remedy) from None

    def _contract(self, spec: WorkerSpec, socket: Path, port: int) -> dict[str, str]:
        """Return the environment that DESIGN 5.2 promises to a worker of any language."""
        settings = spec.settings
        contract = {
            "ROUTE": spec.page.route,
            "READ_TIMEOUT_SECONDS": _number(settings.read_timeout_seconds),
            "WRITE_TIMEOUT_SECONDS": _number(settings.write_timeout_seconds),
            "IDLE_TIMEOUT_SECONDS": _number(settings.idle_timeout_seconds),
            "TQ_SOCKET": str(socket),
            "TQ_PAGE": spec.page.name,
            "TQ_REVISION": str(spec.revision),
            "TQ_MODE": self._mode,
            **settings.env,
        }
        if port:
            contract["PORT"] = str(port)
        if settings.gomaxprocs > 0:
            contract["GOMAXPROCS"] = str(settings.gomaxprocs)
        if settings.gomemlimit:
            contract["GOMEMLIMIT"] = settings.gomemlimit
        return contract


def _number(seconds: float) -> str:
    """The original's workers read whole seconds."""
    return str(int(seconds)) if float(seconds).is_integer() else str(seconds)
