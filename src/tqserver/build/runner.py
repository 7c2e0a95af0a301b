"""One build command: bounded in time, its output kept whole, killed with its children."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqserver.host import clock
from tqserver.host.process import spawn
from tqserver.model.errors import BuildError


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended. ``output`` is stdout and stderr in the order they were written."""

    code: int
    output: str
    seconds: float


async def run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], time_limit_seconds: float) -> Completed:
    """Run a command to its end.

    Raises :class:`BuildError` if it cannot start or exceeds its time. When it does, or when the awaiting task
    is cancelled since newer content came, its whole process group is killed and reaped.
    """
    begun = clock.monotonic()
    with tempfile.TemporaryFile() as output:  # a file, not a pipe: nothing to drain, nothing to fill up
        try:
            child = spawn(argv, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise BuildError(f"cannot run {argv[0]}: {error.strerror}", remedy="is it installed?") from error
        late = False
        try:
            async with asyncio.timeout(time_limit_seconds):
                await child.wait()
        except TimeoutError:
            late = True
        finally:
            child.kill_group()
            await child.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if late:
        raise BuildError(
            f"the build took more than {time_limit_seconds:g} s and was killed",
            output=text,
            remedy="raise workers.build_timeout_seconds if it needs longer",
        )
    assert child.code is not None
    return Completed(child.code, text, clock.monotonic() - begun)
