"""Whether somebody listens: gone, busy and silent are three things."""

from __future__ import annotations

import socket
from pathlib import Path

from tqserver.control.health import nobody_listens


async def test_a_socket_that_is_not_there_any_more(tmp_path: Path) -> None:
    assert await nobody_listens(f"unix:{tmp_path / 'gone.sock'}")


async def test_a_socket_that_nobody_has_open(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert not await nobody_listens(f"unix:{path}")
    assert await nobody_listens(f"unix:{path}")


async def test_a_port_that_nobody_has() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert await nobody_listens(f"tcp:127.0.0.1:{port}")
        listener.listen()
        assert not await nobody_listens(f"tcp:127.0.0.1:{port}")


async def test_who_has_enough_to_do_is_there(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen(0)
        client.connect(str(path))  # and the queue is full
        assert not await nobody_listens(f"unix:{path}")
