"""Writing on another thread: in order, bounded, and whole lines into what is open already."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tqserver.host.background import MOST_WAITING_BYTES, BackgroundWriter
from tqserver.host.log import OpenFile


def test_what_is_put_is_written_in_order() -> None:
    written: list[bytes] = []
    writer = BackgroundWriter(written.append)
    assert all(writer.put(b"%d" % number) for number in range(100))
    assert writer.close(10)
    assert written == [b"%d" % number for number in range(100)]


def test_a_write_that_hangs_holds_nobody_up_and_the_rest_is_refused() -> None:
    may_write = threading.Event()
    written: list[bytes] = []

    def write(text: bytes) -> None:
        may_write.wait()
        written.append(text)

    writer = BackgroundWriter(write)
    half = b"x" * (MOST_WAITING_BYTES // 2)
    assert [writer.put(half) for _ in range(3)] == [True, True, False]
    assert not writer.close(0.0)
    may_write.set()
    assert writer.close(10)
    assert written == [half, half]


def test_whole_lines_are_written_at_once(tmp_path: Path, monkeypatch: object) -> None:
    read_end, write_end = os.pipe()
    pieces: list[bytes] = []

    class Recorded(OpenFile):
        def _open_current(self) -> None:
            pieces.append(b"")

    file = Recorded(write_end, "a pipe", 10, pieces.append)  # type: ignore[arg-type]
    file.write(b"abc\ndef\nghij\nklmnopqrstuvwxyz\nend\n")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == b"abc\ndef\nghij\nklmnopqrstuvwxyz\nend\n"
    assert len(pieces) == 4, "abc def, ghij, the long one, end"


def test_what_cannot_be_written_is_told_once_and_so_is_how_much() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    said: list[str] = []
    file = OpenFile(write_end, "standard output", 4096, said.append)
    file.write(b"lost\n")
    file.write(b"lost too\n")
    os.close(write_end)
    assert said == ["cannot write standard output: Broken pipe; output is being lost"]
