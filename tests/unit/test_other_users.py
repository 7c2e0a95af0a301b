"""Files that other users reach or make: artifacts, sockets; and whom a name means."""

from __future__ import annotations

import getpass
import os
import socket
import stat
from pathlib import Path

import pytest

from tqserver.build.store import Store
from tqserver.host.identity import identity_of
from tqserver.host.rundir import RunDirectory
from tqserver.model.errors import HostError
from tqserver.wire.messages import Identity

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")
NOBODY = Identity("nobody", 65534, 65534, [65534], "/nonexistent")
DIGEST = "ab" * 16


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    with store.scratch() as scratch:
        made = scratch / "artifact"
        (made / "below").mkdir(parents=True)
        made.chmod(0o700)
        (made / "below").chmod(0o700)
        (made / "below/code.py").write_text("secret")
        (made / "below/code.py").chmod(0o600)
        store.publish(made, DIGEST)
    return store


@as_root
def test_an_artifact_is_for_the_group_that_it_is_granted(store: Store) -> None:
    path = store.path_of(DIGEST)
    for _ in range(2):
        store.grant(DIGEST, 65534)
        assert (mode(path), path.stat().st_gid) == (0o750, 65534)
        assert (mode(path / "below"), mode(path / "below/code.py")) == (0o755, 0o644)
        assert (mode(path.parent), mode(path.parents[1])) == (0o711, 0o711), "passed, not listed"
    store.grant(DIGEST, 4)
    assert (mode(path), path.stat().st_gid) == (0o755, 65534), "the first group keeps it"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def listening(path: Path, uid: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    os.chown(path, uid, -1)
    sock.listen()
    return sock


@as_root
def test_a_socket_of_another_user_gets_a_name_of_ours(run: RunDirectory) -> None:
    made = run.socket_of(NOBODY, "w1")
    assert (made.parent.stat().st_uid, mode(made.parent)) == (NOBODY.uid, 0o700)
    assert [mode(directory) for directory in (run.sockets, run.sockets.parent, run.root)] == [0o711] * 3
    with listening(made, NOBODY.uid):
        ours = run.take_over(made, NOBODY)
        assert ours.parent == run.sockets
        made.unlink()
        made.symlink_to("/dev/null")  # it is too late to lead anybody astray
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.connect(str(ours))
    run.close()


@as_root
def test_what_is_no_socket_of_this_user_is_not_taken(run: RunDirectory) -> None:
    made = run.socket_of(NOBODY, "w1")
    other = run.socket("other")
    with listening(other, 0):
        made.symlink_to(other)
        with pytest.raises(HostError, match="no socket of user nobody"):
            run.take_over(made, NOBODY)
        made.unlink()
        os.link(other, made)
        with pytest.raises(HostError, match="no socket of user nobody"):
            run.take_over(made, NOBODY)
        made.unlink()
        made.write_text("")
        with pytest.raises(HostError, match="no socket of user nobody"):
            run.take_over(made, NOBODY)
        made.unlink()
        with pytest.raises(HostError, match="No such file"):
            run.take_over(made, NOBODY)
        assert not (run.sockets / "w1.sock").is_symlink()
        assert not (run.sockets / "w1.sock").exists()
    run.close()


def test_ones_own_name_changes_nothing() -> None:
    own = getpass.getuser()
    assert identity_of("") is identity_of(own) is identity_of(str(os.getuid())) is identity_of(f"{own}:{os.getgid()}")


@as_root
def test_whom_a_name_means() -> None:
    nobody = identity_of("nobody")
    assert nobody == identity_of("65534")
    assert nobody is not None
    assert (nobody.name, nobody.uid, nobody.groups) == ("nobody", 65534, [nobody.gid])
    with_group = identity_of("nobody:daemon")
    assert with_group is not None
    assert with_group.gid != nobody.gid
    assert with_group.gid in with_group.groups
    assert identity_of("4123456:4") == Identity("4123456", 4123456, 4, [4], "/")
