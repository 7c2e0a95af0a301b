"""What a forked child says to control, who must not believe all of it: its page can write there too."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from tqserver.control.zygotes import Report
from tqserver.host.sockets import pair, send_frame
from tqserver.wire.frames import MAX_REPORT_FRAME_BYTES, frame
from tqserver.wire.messages import Failed, Loaded, Ready, Started, from_child


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Report, socket.socket]]:
    ours, theirs = pair()
    report = Report()
    await report.attach(ours)
    with theirs:
        yield report, theirs
    report.close()


async def test_messages_come_in_order_and_end_with_none(ends: tuple[Report, socket.socket]) -> None:
    report, child = ends
    for message in (Started(1), Loaded(["/p/a"]), Ready(modules=["m"])):
        send_frame(child, from_child.encode(message))
    child.shutdown(socket.SHUT_WR)
    assert [await report.next() for _ in range(4)] == [Started(1), Loaded(["/p/a"]), Ready(modules=["m"]), None]
    assert report.garbled == ""


async def test_files_that_were_loaded_meanwhile_come_at_once(ends: tuple[Report, socket.socket]) -> None:
    report, child = ends
    child.sendall(b"".join(frame(from_child.encode(Loaded([f"/p/{number}"]))) for number in range(100)))
    child.shutdown(socket.SHUT_WR)
    assert await report.next() == Loaded([f"/p/{number}" for number in range(100)])
    assert await report.next() is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\xff" * 10, "over the limit"),
        ((MAX_REPORT_FRAME_BYTES + 1).to_bytes(4, "big"), "over the limit"),
        (frame(b"\xc1"), "MessagePack"),
        (frame(from_child.encode(Failed("")) + b"more"), "MessagePack"),
    ],
    ids=["noise", "long", "no message", "more than a message"],
)
async def test_what_is_no_message_ends_it(ends: tuple[Report, socket.socket], said: bytes, reason: str) -> None:
    report, child = ends
    send_frame(child, from_child.encode(Started(1)))
    child.sendall(said)
    assert await report.next() == Started(1)
    assert await report.next() is None
    assert reason in report.garbled
    assert child.recv(1) == b""  # it is told that nobody listens
