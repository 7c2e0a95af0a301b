"""A build command ends, with all it printed, and takes its children with it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tqserver.build.runner import Completed, run
from tqserver.model.errors import BuildError

pytestmark = pytest.mark.usefixtures("reaped")

FAMILY = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("before it hung", flush=True)
pathlib.Path("pids.part").write_text(f"{os.getpid()} {child.pid}")
os.rename("pids.part", "pids")
child.wait()
"""


async def python(code: str, cwd: Path, limit: float = 60) -> Completed:
    return await run([sys.executable, "-c", code], cwd=cwd, env=dict(os.environ), time_limit_seconds=limit)


async def condition(holds: object) -> None:
    """Wait for something that another process brings about."""
    assert callable(holds)
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """It has ended: it is no more, or waits for a parent that is not ours to reap it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


async def test_output_is_whole_and_in_order(tmp_path: Path) -> None:
    code = "import os\nfor n in range(50000):\n os.write(1, b'%05d' % n + b'o' * 45)\n os.write(2, b'e' * 50)\n"
    done = await python(code, tmp_path)
    assert done.output == "".join(f"{n:05d}" + "o" * 45 + "e" * 50 for n in range(50000))
    assert done.code == 0 and len(done.output) == 5_000_000


async def test_the_exit_code_and_output_that_is_no_text(tmp_path: Path) -> None:
    done = await python("import os; os.write(2, b'caf\\xe9\\n'); os._exit(3)", tmp_path)
    assert (done.code, done.output) == (3, "caf\N{REPLACEMENT CHARACTER}\n")


async def test_it_runs_where_and_with_what_it_is_told(tmp_path: Path) -> None:
    code = ["-c", "import os; print(os.getcwd(), os.environ['WHAT'])"]
    done = await run([sys.executable, *code], cwd=tmp_path, env={"WHAT": "ever"}, time_limit_seconds=60)
    assert done.output == f"{tmp_path} ever\n"


async def test_at_the_limit_it_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="took more than 2 s") as caught:
        await python(FAMILY, tmp_path, limit=2)
    assert caught.value.output == "before it hung\n"
    assert "build_timeout_seconds" in caught.value.remedy
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        await condition(lambda pid=pid: gone(pid))


async def test_when_newer_content_comes_it_is_killed_with_its_children(tmp_path: Path) -> None:
    build = asyncio.create_task(python(FAMILY, tmp_path))
    await condition((tmp_path / "pids").exists)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    parent, child = map(int, (tmp_path / "pids").read_text().split())
    assert not Path(f"/proc/{parent}").exists()  # reaped
    await condition(lambda: gone(child))


async def test_what_it_leaves_running_ends_with_it(tmp_path: Path) -> None:
    await python(FAMILY.replace("child.wait()", ""), tmp_path)
    child = int((tmp_path / "pids").read_text().split()[1])
    await condition(lambda: gone(child))


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot run no-such-compiler"):
        await run(["no-such-compiler"], cwd=tmp_path, env={}, time_limit_seconds=1)
