"""Cgroups, on a directory that behaves as cgroupfs does where it matters, and on the kernel's own where there is one.

The fake fills new directories with the control files, refuses memory to the children of a cgroup that has processes,
moves processes that are written into ``cgroup.procs``, and removes a directory with its control files if none is in it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tqserver.host.cgroup import Cgroup, Cgroups, delegation

SERVICE = "0::/system.slice/tqserver.service\n"
ELSEWHERE = "9:memory:/x\n0::/system.slice/tqserver.service/tqserver\n"


class Kernel:
    """The fake. ``processes`` are who is where."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.processes: dict[str, Path] = {}
        self._mkdir, self._rmdir, self._write = Path.mkdir, Path.rmdir, Path.write_text
        monkeypatch.setattr(Path, "mkdir", lambda path, **options: self.mkdir(path, **options))
        monkeypatch.setattr(Path, "rmdir", lambda path: self.rmdir(path))
        monkeypatch.setattr(Path, "write_text", lambda path, text: self.write(path, text))

    def mkdir(self, path: Path, *, exist_ok: bool = False, parents: bool = False) -> None:
        self._mkdir(path, exist_ok=exist_ok, parents=parents)
        parent = path.parent / "cgroup.subtree_control"
        memory = path == self.root or (parent.exists() and "memory" in parent.read_text())
        files = ["cgroup.procs", "cgroup.subtree_control", "cgroup.kill"]
        files += ["memory.max", "memory.swap.max", "memory.oom.group", "memory.events"] if memory else []
        for name in files:
            self._write(path / name, "")
        self._write(path / "cgroup.controllers", "cpu memory pids" if memory else "")

    def rmdir(self, path: Path) -> None:
        if path in self.processes.values():
            raise OSError(16, "Device or resource busy")
        for file in path.iterdir():
            file.unlink()
        self._rmdir(path)

    def write(self, path: Path, text: str) -> int:
        if path.name == "cgroup.procs":
            self.processes["this" if text == "0" else text] = path.parent
        elif path.name == "cgroup.subtree_control":
            if path.parent in self.processes.values():
                raise OSError(16, "Device or resource busy")
            text = text.lstrip("+")
        elif path.name == "cgroup.kill":
            self.processes = {who: where for who, where in self.processes.items() if where != path.parent}
        elif not path.exists():
            raise PermissionError(13, "Permission denied")
        return self._write(path, text)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "cgroup", monkeypatch)
    kernel.mkdir(kernel.root)
    kernel.write(kernel.root / "cgroup.subtree_control", "memory")
    kernel.mkdir(kernel.root / "system.slice")
    kernel.write(kernel.root / "system.slice/cgroup.subtree_control", "memory")
    kernel.mkdir(kernel.root / "system.slice/tqserver.service")
    kernel.processes["this"] = kernel.root / "system.slice/tqserver.service"
    return kernel


@pytest.fixture
def service(kernel: Kernel) -> Path:
    return kernel.root / "system.slice/tqserver.service"


# --- is one ours ------------------------------------------------------------------------------------------


def test_the_delegated_cgroup_is_ours(kernel: Kernel, service: Path) -> None:
    assert delegation(kernel.root, SERVICE).ours == service
    assert delegation(kernel.root, ELSEWHERE).ours == service, "asked from the leaf in which the server is"


@pytest.mark.parametrize(
    ("spoil", "membership", "reason"),
    [
        (lambda root: (root / "cgroup.controllers").unlink(), SERVICE, "cgroup v2 is not mounted"),
        (lambda root: None, "9:memory:/x\n", "this process is in no cgroup v2"),
        (lambda root: None, "0::/gone\n", "/gone has no memory controller"),
    ],
)
def test_none_is_ours(kernel: Kernel, spoil: Callable[[Path], None], membership: str, reason: str) -> None:
    spoil(kernel.root)
    found = delegation(kernel.root, membership)
    assert found.ours is None
    assert found.reason.endswith(reason)


def test_one_that_cannot_be_written(kernel: Kernel, service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, how: Path(path).name != "cgroup.subtree_control")
    assert delegation(kernel.root, SERVICE).reason == f"{service} cannot be written"


# --- the server's own -------------------------------------------------------------------------------------


def test_the_server_leaves_the_cgroup_that_hands_out(kernel: Kernel, service: Path) -> None:
    cgroups = Cgroups(kernel.root, SERVICE, "id")
    assert cgroups.reason == ""
    assert kernel.processes == {"this": service / "tqserver"}
    assert (service / "cgroup.subtree_control").read_text() == "memory"
    successor = Cgroups(kernel.root, ELSEWHERE, "other")
    assert successor.reason == ""
    assert kernel.processes == {"this": service / "tqserver"}


def test_a_stranger_in_it_leaves_limits_to_the_watcher(kernel: Kernel, service: Path) -> None:
    kernel.processes["a shell"] = service
    cgroups = Cgroups(kernel.root, SERVICE, "id")
    assert "processes other than the server" in cgroups.reason
    assert cgroups.make(1, 2**20) is None
    assert kernel.processes["this"] == service, "it goes back"
    assert not (service / "tqserver").exists()


def test_what_a_dead_server_left_is_removed(kernel: Kernel, service: Path) -> None:
    Cgroups(kernel.root, SERVICE, "dead").make(1, 2**20)
    Cgroups(kernel.root, ELSEWHERE, "alive").make(1, 2**20)
    Cgroups(kernel.root, ELSEWHERE, "new", earlier=["dead"])
    assert sorted(path.name for path in service.glob("tqserver-*")) == ["tqserver-alive-w1"]


# --- a worker's -------------------------------------------------------------------------------------------


def test_a_worker_with_a_limit(kernel: Kernel, service: Path) -> None:
    cgroups = Cgroups(kernel.root, SERVICE, "id")
    assert cgroups.make(6, 0) is None, "a worker without a limit pays nothing"
    cgroup = cgroups.make(7, 64 * 2**20)
    assert cgroup is not None
    assert cgroup.path == service / "tqserver-id-w7"
    shown = {name: (cgroup.path / f"memory.{name}").read_text() for name in ("max", "swap.max", "oom.group")}
    assert shown == {"max": "67108864", "swap.max": "0", "oom.group": "1"}
    cgroup.limit_memory(0)
    assert (cgroup.path / "memory.max").read_text() == "max"


def test_a_kernel_that_does_not_account_for_swap(kernel: Kernel) -> None:
    cgroup = Cgroups(kernel.root, SERVICE, "id").make(1, 2**20)
    assert cgroup is not None
    (cgroup.path / "memory.swap.max").unlink()
    cgroup.limit_memory(2**21)
    assert (cgroup.path / "memory.max").read_text() == "2097152"


def test_the_reason_of_a_death(kernel: Kernel) -> None:
    cgroup = Cgroups(kernel.root, SERVICE, "id").make(1, 2**20)
    assert cgroup is not None
    events = cgroup.path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n")
    assert not cgroup.was_out_of_memory()
    events.write_text("low 0\nhigh 0\nmax 14\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert cgroup.was_out_of_memory()


def test_what_it_forked_ends_with_it(kernel: Kernel) -> None:
    cgroups = Cgroups(kernel.root, SERVICE, "id")
    cgroup = cgroups.make(1, 2**20)
    assert cgroup is not None
    kernel.processes["a daemon of the page"] = cgroup.path
    cgroups.end(cgroup)
    assert "a daemon of the page" not in kernel.processes
    assert not cgroup.path.exists()


def test_one_that_is_not_empty_yet_is_removed_later(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroups = Cgroups(kernel.root, SERVICE, "id")
    cgroup = cgroups.make(1, 2**20)
    assert cgroup is not None
    monkeypatch.setattr(Cgroup, "kill", lambda self: None)  # Linux before 5.14
    kernel.processes["dying"] = cgroup.path
    cgroups.end(cgroup)
    assert cgroup.path.exists()
    del kernel.processes["dying"]
    cgroups.make(2, 2**20)
    assert not cgroup.path.exists()


# --- the kernel itself ------------------------------------------------------------------------------------


def test_kill_and_removal_by_the_kernel() -> None:
    """What needs no memory controller, in whatever version 2 this machine has, a hybrid one too."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    top = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if top is None or not os.access(top, os.W_OK):
        pytest.skip("no cgroup v2 that can be written")
    cgroup = Cgroup(top / f"tqserver-test-{os.getpid()}")
    cgroup.path.mkdir()
    try:
        script = f"echo 0 > {cgroup.path}/cgroup.procs; setsid sleep 60 & echo in; sleep 60"
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        assert str(process.pid) in (cgroup.path / "cgroup.procs").read_text().split()
        cgroup.kill()
        assert process.wait(20) == -9
        process.stdout.close()
        while (cgroup.path / "cgroup.procs").read_text():  # the one in a session of its own dies as well
            pass
    finally:
        cgroup.path.rmdir()
