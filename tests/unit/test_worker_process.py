"""A worker that is executed: what its end is called, and what is said when it cannot be started as it should."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tqserver.control.worker_process import WorkerOrder, WorkerProcess
from tqserver.host.cgroup import Cgroup
from tqserver.host.log import OutputLines
from tqserver.host.process import reaper
from tqserver.host.tasks import TaskOwner
from tqserver.model.errors import StartError
from tqserver.wire.messages import Limits, PageSpec


@pytest.fixture
async def tasks() -> AsyncIterator[TaskOwner]:
    errors: list[BaseException] = []
    owner = TaskOwner(lambda _, error: errors.append(error))
    reaper().install()
    yield owner
    reaper().close()
    await owner.close()
    assert errors == []


def worker(
    tmp_path: Path, tasks: TaskOwner, *argv: str, cgroup: Cgroup | None = None, limits: Limits | None = None
) -> WorkerProcess:
    here = str(tmp_path)
    spec = PageSpec(1, "page", "/page", 1, here, here, "", here, "", "prod", {}, limits=limits or Limits())
    order = WorkerOrder(
        worker=1,
        spec=PageSpec(
            **{name: getattr(spec, name) for name in spec.__struct_fields__} | {"limits": limits or Limits()}
        ),
        argv=argv,
        environment=dict(os.environ),
        socket=tmp_path / "w1.sock",
        notify=tmp_path / "n1.sock",
        port=0,
        health_path="/health",
        start_timeout_seconds=20,
        cgroup=cgroup,
    )
    return WorkerProcess(order, OutputLines(None), tasks, lambda _: None, lambda *_: None)


async def refusal(process: WorkerProcess) -> StartError:
    with pytest.raises(StartError) as raised:
        await process.start(None)  # type: ignore[arg-type]  # a program needs no zygote
    return raised.value


async def test_a_death_by_the_kernel_for_its_memory_is_called_so(tmp_path: Path, tasks: TaskOwner) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n")
    process = worker(tmp_path, tasks, "sh", "-c", "kill -9 $$", cgroup=Cgroup(tmp_path))
    assert "memory limit" in (await refusal(process)).message
    assert process.exit_reason() == "memory limit: the kernel has killed it"


async def test_another_death_in_a_cgroup_keeps_its_name(tmp_path: Path, tasks: TaskOwner) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n")
    process = worker(tmp_path, tasks, "sh", "-c", "kill -9 $$", cgroup=Cgroup(tmp_path))
    assert "killed by SIGKILL" in (await refusal(process)).message


@pytest.mark.parametrize(
    ("argv", "limits", "says"),
    [
        (("/no/such/program",), Limits(), "cannot execute /no/such/program: No such file or directory"),
        (("true",), Limits(cgroup="/no/such/cgroup"), "cannot enter the cgroup /no/such/cgroup"),
        (("true",), Limits(open_files=2**31), "cannot allow 2147483648 open files"),
    ],
)
async def test_what_cannot_be_started_says_why_and_keeps_nothing(
    tmp_path: Path, tasks: TaskOwner, argv: tuple[str, ...], limits: Limits, says: str
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert says in (await refusal(worker(tmp_path, tasks, *argv, limits=limits))).message
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not (tmp_path / "n1.sock").exists()
