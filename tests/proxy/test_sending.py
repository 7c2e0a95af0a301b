"""A file on its way to a client that reads slowly, leaves, or gets it beside what its connection has still to write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.rig import DEADLINE_SECONDS, LARGE, STYLE, Head, Proxy, Wire, Worker, get, with_files
from tests.proxy.test_counting import answered, counted
from tqserver.proxy import files
from tqserver.proxy.public import PublicDirectory
from tqserver.proxy.sending import Sending
from tqserver.wire.http1 import parse_request_head
from tqserver.wire.messages import Acknowledged, RouteLimits, ServerLimits

HUGE = 400_000_000  # no socket's buffers hold it


@pytest.fixture
def huge(public: Path) -> Path:
    file = public / "huge.bin"
    file.touch()
    os.truncate(file, HUGE)  # of zeros, which take no room
    return file


def descriptors(proxy: Proxy, target: Path) -> int:
    names = (os.readlink(f"/proc/{proxy.process.pid}/fd/{n}") for n in os.listdir(f"/proc/{proxy.process.pid}/fd"))
    return sum(name.startswith(str(target)) for name in names)


def begun(proxy: Proxy) -> tuple[Wire, Head]:
    client = proxy.connect().send(get("/huge.bin"))
    return client, client.head()


def test_a_client_that_does_not_read_costs_nothing_and_is_given_up(
    proxy: Proxy, worker: Worker, public: Path, huge: Path
) -> None:
    short = 0.1
    row = with_files(public, worker, name="slow", limits=RouteLimits(write_timeout_seconds=short))
    proxy.route(row, limits=ServerLimits(write_timeout_seconds=short))
    before = proxy.resident_bytes()
    client, _ = begun(proxy)
    assert proxy.connect().send(get("/style.css")).response().body == STYLE  # others are served meanwhile
    assert counted(proxy, "slow", lambda total: total.cut == 1 and not total.in_flight).codes[2] == 2
    assert proxy.resident_bytes() - before < 3_000_000
    assert descriptors(proxy, huge) == 0
    assert len(client.rest()) < HUGE


def test_a_client_that_reads_slowly_is_not_given_up(proxy: Proxy, worker: Worker, public: Path, huge: Path) -> None:
    """It takes longer than the timeout until the kernel asks for more."""
    proxy.route(
        with_files(public, limits=RouteLimits(write_timeout_seconds=0.1)),
        limits=ServerLimits(write_timeout_seconds=0.1),
    )
    client, _ = begun(proxy)
    end = time.monotonic() + 4.0
    while time.monotonic() < end:
        client.exactly(70_000)
        time.sleep(0.2)
    for _ in range(30):
        client.exactly(1_000_000)


def test_a_client_that_leaves_takes_the_file_along(proxy: Proxy, worker: Worker, public: Path, huge: Path) -> None:
    proxy.route(with_files(public, worker, name="left"))
    client, _ = begun(proxy)
    assert descriptors(proxy, huge) == 1
    client.reset()
    total = counted(proxy, "left", answered(1))
    assert (total.in_flight, total.codes[2]) == (0, 1)
    assert descriptors(proxy, huge) == 0


def test_a_file_that_becomes_shorter_is_cut_short(proxy: Proxy, worker: Worker, public: Path, huge: Path) -> None:
    proxy.route(with_files(public, worker, name="shorter"))
    client, head = begun(proxy)
    os.truncate(huge, 1000)
    assert int(head["Content-Length"]) == HUGE
    assert len(client.rest()) < HUGE
    assert counted(proxy, "shorter", lambda total: total.cut == 1).in_flight == 0


def test_a_file_that_is_replaced_goes_on_as_it_was(site: Proxy, public: Path) -> None:
    client = site.connect().send(get("/deep/large.bin"))
    head = client.head()
    (public / "new").write_bytes(b"new")
    (public / "new").rename(public / "deep/large.bin")
    assert client.exactly(int(head["Content-Length"])) == LARGE
    assert client.send(get("/deep/large.bin")).response().body == b"new"


def test_a_descriptor_is_given_back_after_every_answer(site: Proxy, public: Path) -> None:
    client = site.connect()
    for request in (
        get("/style.css"),
        get("/deep/large.bin"),
        get("/style.css", "If-None-Match: *"),
        get("/style.css", "Range: bytes=900-"),
    ):
        client.send(request)
        client.response(bodiless=b"None-Match" in request)
    site.hear(Acknowledged, version=site.retell())
    assert descriptors(site, public) == 0


# --- beside the transport ---------------------------------------------------------------------------------


class Played(asyncio.Transport):
    """Stands for a client's transport: keeps what is written to it, and holds some of it back at first."""

    def __init__(self, sock: socket.socket, *, held: int = 0, encrypts: bool = False) -> None:
        super().__init__({"socket": sock, "sslcontext": object() if encrypts else None})
        self.written: list[bytes] = []
        self.held = held  # so many times

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        self.held -= 1
        return max(0, self.held)

    def is_closing(self) -> bool:
        return False


class Told:
    """Stands for the relay."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.sent_bytes = 0

    def file_goes_on(self, count: int) -> None:
        self.sent_bytes += count

    def file_sent(self) -> None:
        self.ended.set()


@dataclass
class Stage:
    """A file that is sent, and both ends of the connection."""

    sending: Sending
    told: Told
    client: socket.socket


@pytest.fixture
def stage(public: Path) -> Iterator[Callable[..., tuple[Stage, Played]]]:
    """Sends bytes 5 to 2000000 of the large file by a transport that is played."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    def begin(**how: Any) -> tuple[Stage, Played]:
        request = parse_request_head(get("/deep/large.bin", "Range: bytes=5-2000000"))
        file = files.find(PublicDirectory(str(public), "/"), request)
        assert file is not None
        transport, told = Played(ours, **how), Told()
        sending = Sending(file, told, transport)  # type: ignore[arg-type]
        sending.begin(b"head")
        return Stage(sending, told, theirs), transport

    with ours, theirs:
        yield begin


async def received(stage: Stage) -> bytes:
    """Read all that comes beside the transport until the end."""
    content = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not stage.told.ended.is_set():
            try:
                content += stage.client.recv(65536)
            except BlockingIOError:
                await asyncio.sleep(0)
    stage.sending.stop()
    with contextlib.suppress(BlockingIOError):
        while piece := stage.client.recv(65536):
            content += piece
    return content


async def test_while_the_transport_has_something_to_write_nothing_goes_beside_it(
    stage: Callable[..., tuple[Stage, Played]],
) -> None:
    played, transport = stage(held=20)
    while transport.held > 1:
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            played.client.recv(1)
    assert b"".join(transport.written) + await received(played) == b"head" + LARGE[5:2000001]
    assert len(transport.written) == 1


async def test_beside_a_connection_that_is_encrypted_nothing_goes_at_all(
    stage: Callable[..., tuple[Stage, Played]],
) -> None:
    played, transport = stage(encrypts=True)
    assert await received(played) == b""
    assert b"".join(transport.written) == b"head" + LARGE[5:2000001]
    assert max(map(len, transport.written)) < 70_000  # no more than one piece is held
    assert played.told.sent_bytes == 2000001 - 5
