"""Who is below a process, whatever it has done to hide."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tqserver.host import descent
from tqserver.host.descent import Process

FAMILY = "sleep 3600 >/dev/null & setsid sleep 3600 >/dev/null & echo ready; exec sleep 3600"


@pytest.fixture
def top() -> Iterator[subprocess.Popen[str]]:
    """A shell with a child and one that has a session of its own."""
    shell = subprocess.Popen(["sh", "-c", FAMILY], env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    assert shell.stdout.readline() == "ready\n"
    family = descent.below(shell.pid)
    yield shell
    descent.kill(family)
    shell.kill()
    shell.communicate()


def test_below(top: subprocess.Popen[str]) -> None:
    family = descent.below(top.pid)
    assert len(family) == 2
    assert descent.below(os.getpid()) >= family
    assert not descent.below(os.getpid(), but_not={top.pid}) & family


def test_those_that_run_are_killed_with_what_is_below_them(top: subprocess.Popen[str]) -> None:
    family = descent.below(top.pid)
    (itself,) = (process for process in descent.below(os.getpid()) if process.pid == top.pid)
    assert descent.kill([itself]) == sorted([top.pid, *(process.pid for process in family)])
    top.wait()
    assert descent.kill([itself]) == []


def test_another_process_of_the_same_pid_is_left_alone(top: subprocess.Popen[str]) -> None:
    (itself,) = (process for process in descent.below(os.getpid()) if process.pid == top.pid)
    assert descent.kill([Process(itself.pid, itself.started - 1)]) == []
    assert top.poll() is None


def test_a_zombie_runs_no_more(top: subprocess.Popen[str]) -> None:
    top.kill()
    os.waitid(os.P_PID, top.pid, os.WEXITED | os.WNOWAIT)
    assert top.pid not in {process.pid for process in descent.below(os.getpid())}


def test_all_below_is_killed(top: subprocess.Popen[str]) -> None:
    family = {process.pid for process in descent.below(top.pid)}
    assert set(descent.kill_below(top.pid, but_not=())) == family
    assert descent.below(top.pid) == set()
