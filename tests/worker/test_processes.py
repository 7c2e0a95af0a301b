"""Forks: whose children they are, what they hold, what they have imported, and how they end."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.worker.played import DEADLINE_SECONDS, PlayedControl
from tqserver.host.cgroup import Cgroup
from tqserver.host.sockets import pair, receive_frame, send_frame
from tqserver.wire.messages import Failed, Fork, Limits, Preload, Started, from_child, to_zygote
from tqserver.worker import zygote as zygote_module

HANDLER = "def get():\n    pass\n"
FASTAPI = "import sys\nheld = 'fastapi' in sys.modules\nfrom fastapi import FastAPI\napp = FastAPI()\n"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_gone(pid: int) -> None:
    """Wait until a process has exited; one that is our child is reaped by its owner."""
    try:
        poller = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([poller], [], [], DEADLINE_SECONDS)[0], f"{pid} does not exit"
    finally:
        os.close(poller)


def test_a_worker_is_controls_child_and_leads_its_session(control: PlayedControl) -> None:
    control.write("hello", {"main.py": HANDLER})
    page = control.fork(control.build("hello"))
    started = page.next()
    assert isinstance(started, Started)
    page.pid = started.pid
    page.ready()
    assert parent_of(page.pid) == os.getpid()
    assert os.getsid(page.pid) == page.pid
    title = Path(f"/proc/{page.pid}/cmdline").read_bytes().rstrip(b"\0")
    assert title == b"tqserver: worker hello r1"


def test_a_worker_holds_no_descriptor_of_the_zygote(control: PlayedControl) -> None:
    first = control.start("hello", {"main.py": HANDLER})
    second = control.start("hello", {"main.py": HANDLER})
    assert second.descriptors()[0] == "/dev/null"
    assert second.descriptors()[1] == second.descriptors()[2] != first.descriptors()[1]
    shared = set(first.descriptors().values()) & set(second.descriptors().values())
    assert {link for link in shared if not link.startswith("anon_inode:")} == {"/dev/null"}


def test_the_zygote_keeps_no_descriptor_of_its_children(control: PlayedControl) -> None:
    links = Path(f"/proc/{control.process.pid}/fd")
    control.start("hello", {"main.py": HANDLER})
    before = len(list(links.iterdir()))
    control.start("hello", {"main.py": HANDLER})
    assert len(list(links.iterdir())) == before


def test_learned_modules_are_held_by_the_next_zygote(control: PlayedControl) -> None:
    source = FASTAPI + "@app.get('/')\ndef root():\n    return held\n"
    control.write("api", {"main.py": source})
    cold = control.fork(control.build("api"))
    modules = cold.ready().modules
    assert cold.get("/api").text == "false"
    assert "fastapi" in modules
    assert "main" not in modules

    zygote = control.preload(modules)
    assert zygote.ready().modules == modules
    assert parent_of(zygote.pid) == os.getpid()
    warm = control.fork(control.build("api"), zygote.control)
    assert warm.ready().modules == []
    assert warm.get("/api").text == "true"


def test_a_hint_that_does_not_hold_is_none(control: PlayedControl) -> None:
    zygote = control.preload(["no_such_module", "antigravity_", "csv"])
    assert zygote.ready().modules == ["csv"]
    assert "not preloaded: no_such_module" in zygote.output("no_such_module")


def installed(control: PlayedControl, name: str, source: str) -> PlayedControl:
    """Return another root zygote, for which a module of this source is installed."""
    directory = control.project.parent / "site-packages"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(textwrap.dedent(source))
    path = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    return PlayedControl(control.project, {"PYTHONPATH": os.pathsep.join(path)})


def test_a_module_that_starts_a_thread_is_left_out(control: PlayedControl) -> None:
    source = """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    """
    other = installed(control, "threaded", source)
    try:
        zygote = other.preload(["csv", "threaded", "wave"])
        ready = zygote.ready()
        assert (ready.modules, ready.left_out) == (["csv"], ["threaded"])
        assert zygote.wait() == 3
        again = other.preload(["csv", "threaded", "wave"], ["threaded"])
        ready = again.ready()
        assert (ready.modules, ready.left_out) == (["csv", "wave"], [])
    finally:
        other.close()


def test_a_module_that_keeps_a_file_open_is_left_out(control: PlayedControl) -> None:
    other = installed(control, "opening", "kept = open('/dev/zero')\n")
    try:
        zygote = other.preload(["opening"])
        assert zygote.ready().left_out == ["opening"]
        assert zygote.wait() == 3
    finally:
        other.close()


def refuse() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize(("threads", "reason"), [(2, "2 threads"), (1, os.strerror(errno.EAGAIN))])
def test_a_fork_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, threads: int, reason: str) -> None:
    monkeypatch.setattr(zygote_module, "_threads", lambda: threads)
    monkeypatch.setattr("os.fork", refuse)
    monkeypatch.setattr("gc.freeze", lambda: None)
    ours, theirs = pair()
    report, reports = pair()
    with ours, theirs, report:
        with reports:
            send_frame(ours, to_zygote.encode(Fork(preload=Preload(1, []))), [reports.fileno(), theirs.fileno()])
        ours.shutdown(socket.SHUT_WR)
        zygote_module.Zygote(theirs, os.getppid()).serve()
        received = receive_frame(report)
        assert receive_frame(report) is None
    assert received is not None
    failed = from_child.decode(received[0])
    assert isinstance(failed, Failed)
    assert reason in failed.message


def test_a_zygote_that_dies_leaves_its_workers(control: PlayedControl) -> None:
    control.write("hello", {"main.py": "def get():\n    return 'alive'\n"})
    zygote = control.preload(["csv"])
    zygote.ready()
    page = control.fork(control.build("hello"), zygote.control)
    page.ready()
    os.kill(zygote.pid, signal.SIGKILL)
    assert zygote.wait() == -signal.SIGKILL
    os.kill(control.process.pid, signal.SIGKILL)
    control.process.wait()
    assert page.get("/hello").text == "alive"


def test_a_zygote_ends_with_its_socket_and_by_sigterm(control: PlayedControl) -> None:
    one, two = control.preload(["csv"]), control.preload(["csv"])
    one.ready()
    two.ready()
    assert one.control is not None
    one.control.close()
    assert one.wait() == 0
    assert two.stop() == -signal.SIGTERM


def test_sigint_is_not_for_zygotes_and_workers(control: PlayedControl) -> None:
    zygote = control.preload(["csv"])
    zygote.ready()
    page = control.start("hello", {"main.py": "def get():\n    return 'alive'\n"})
    for pid in (control.process.pid, zygote.pid, page.pid):
        os.kill(pid, signal.SIGINT)
    assert page.get("/hello").text == "alive"
    control.start("hello", {"main.py": HANDLER})


# --- the end of control -----------------------------------------------------------------------------------

DOOMED = """
    import os, signal, sys
    from pathlib import Path
    from tests.worker.played import PlayedControl
    from tqserver.host.process import become_subreaper

    become_subreaper()
    control = PlayedControl(Path(sys.argv[1]), {{"TQ_INSTANCE": sys.argv[2]}})
    page = control.start("hello", {{"main.py": {source!r}}})
    if {preloads}:
        zygote = control.preload(["csv"])
        zygote.ready()
        print(zygote.pid)
    print(page.get("/hello").text)
    print(page.pid)
    print(control.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def doomed(project: Path, instance: str, source: str, *, preloads: bool = False) -> list[int]:
    """Play control in a process that is killed; return the pids that it told."""
    script = textwrap.dedent(DOOMED.format(source=source, preloads=preloads))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(project), instance],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return [int(word) for word in done.stdout.split()]


def reap(*pids: int) -> None:
    """Wait for processes that this one, a subreaper, has inherited, and reap them."""
    for pid in pids:
        wait_gone(pid)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue


def test_workers_and_zygotes_die_with_control(project: Path) -> None:
    source = "import os\ndef get():\n    return str(os.getpid())\n"
    reap(*doomed(project, "", source, preloads=True))


def test_the_guard_kills_what_a_page_has_started(project: Path) -> None:
    source = """
import subprocess
def get():
    sleep = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    return str(sleep.pid)
"""
    sleep, page, zygote = doomed(project, f"test-{os.getpid()}", source)
    reap(zygote, page, sleep)


def test_the_instance_stays_visible_under_the_title(project: Path) -> None:
    control = PlayedControl(project, {"TQ_INSTANCE": "visible"})
    try:
        page = control.start("a/rather/long/name/of/a/page", {"main.py": HANDLER})
        for pid in (page.pid, control.process.pid):
            assert b"TQ_INSTANCE=visible" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    finally:
        page.stop()
        control.process.kill()  # before the end of its socket makes a guard of it
        control.close()


def test_a_worker_is_in_its_cgroup_before_it_reads_its_page(control: PlayedControl) -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    top = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    if top is None or not os.access(top, os.W_OK):
        pytest.skip("no cgroup v2 that can be written")
    cgroup = Cgroup(top / f"tqserver-entered-{os.getpid()}")
    cgroup.path.mkdir()
    try:
        source = "AT_IMPORT = open('/proc/self/cgroup').read()\n\n\ndef get():\n    return AT_IMPORT\n"
        page = control.start("hello", {"main.py": source}, limits=Limits(cgroup=str(cgroup.path)))
        assert f"0::/{cgroup.path.name}\n" in page.get("/hello").text + "\n"
        cgroup.kill()
        assert page.wait() == -signal.SIGKILL
    finally:
        cgroup.path.rmdir()


def test_a_cgroup_that_cannot_be_entered_is_told(control: PlayedControl) -> None:
    control.write("hello", {"main.py": HANDLER})
    failed = control.fork(control.build("hello", limits=Limits(cgroup="/no/such/cgroup"))).failed()
    assert failed.message == "cannot enter the cgroup /no/such/cgroup: No such file or directory"
