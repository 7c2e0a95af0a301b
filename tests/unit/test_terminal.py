"""What a terminal shows: pages' output bounded and harmless, events in words."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tqserver.host.terminal import HELD_LINES, LINES_PER_SECOND, Terminal, WorkerOutput

Shown = list[tuple[str, str]]


class Printed:
    """A worker's output, and what of it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.output = WorkerOutput("/api", self._show)

    def _show(self, route: str, lines: Sequence[str]) -> None:
        assert route == "/api"
        self.shown += lines


def told(**event: Any) -> str:
    stream = io.StringIO()
    Terminal(stream, colours=False).event({"timestamp": "2026-01-02T03:04:05.6+00:00", "level": "info", **event})
    return stream.getvalue()


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def test_a_worker_that_starts_is_heard_when_it_is_ready() -> None:
    worker = Printed()
    worker.output.take([b"one"])
    assert worker.shown == []
    worker.output.ready()
    worker.output.take([b"two"])
    assert worker.shown == ["one", "two"]


def test_what_the_error_says_is_not_shown_beside_it() -> None:
    worker = Printed()
    worker.output.take([b"mine", b"Traceback:", b"  boom"])
    worker.output.failed("Traceback:\n  boom\n")
    assert worker.shown == ["mine"]


def test_a_page_that_prints_without_end_is_cut_short() -> None:
    worker = Printed()
    worker.output.take([b"x"] * (HELD_LINES - 1))
    worker.output.ready()
    for _ in range(LINES_PER_SECOND):
        worker.output.take([b"x"] * 10)
    assert len(worker.shown) <= 3 * (LINES_PER_SECOND + 1)  # the second may turn meanwhile
    assert f"… more than {LINES_PER_SECOND} lines a second: tqserver logs -f /api has all" in worker.shown


@pytest.mark.parametrize(
    ("printed", "colours", "shown"),
    [
        ("\x1b[31mred\x1b[0m", True, "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b[31mred\x1b[0m", False, "red"),
        ("\x1b]0;title\x07\x1b[2J", True, "\\x1b]0;title\\x07\\x1b[2J"),
        ("tab\there\r", True, "tab\there"),
        ("a" * 3000, True, "a" * 2000 + "…"),
    ],
)
def test_a_page_may_colour_its_lines_and_do_nothing_else(
    pipe: tuple[int, io.TextIOWrapper], printed: str, colours: bool, shown: str
) -> None:
    reading, stream = pipe
    Terminal(stream, colours=colours).lines("/api", [printed])
    assert os.read(reading, 65536).decode().endswith(f" {shown}\n")


def test_a_terminal_that_takes_nothing_holds_nobody_up(pipe: tuple[int, io.TextIOWrapper]) -> None:
    _, stream = pipe
    os.set_blocking(stream.fileno(), False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"x" * 4096)
    Terminal(stream, colours=False).lines("/api", ["lost"])  # it would raise, or wait for ever


def test_what_nobody_has_to_know_is_not_said() -> None:
    assert told(event="snapshot.acknowledged", version=3) == ""
    assert told(event="worker.exited", page="api", worker=1, pid=7, reason="status 0") == ""


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "revision.live", "page": "api", "route": "/api", "revision": 2, "seconds": 0.0213},
            "✓ page /api live in 21 ms\n",
        ),
        (
            {"event": "revision.live", "page": "go", "route": "/go", "seconds": 1.84, "brings_back": 3},
            "✓ page /go live in 1.8 s, revision 3 again\n",
        ),
        (
            {"event": "server.stopping", "in_flight": 2, "deadline_seconds": 30.0},
            "· finishing 2 requests for 30 s at most; Ctrl-C again ends at once\n",
        ),
        (
            {"event": "build.failed", "level": "error", "page": "api", "where": "main.py:3", "error": "no",
             "remedy": "mend it", "output": "a\nb\n", "serving": 4},
            "✗ page /api: main.py:3: no (revision 4 still serves)\n    mend it\n    a\n    b\n",
        ),
        (
            {"event": "zygote.left_out", "level": "warning", "module": "m", "reason": "it starts threads"},
            "! zygote.left_out: it starts threads module=m\n",
        ),
    ],
)  # fmt: skip
def test_an_event_in_words(event: dict[str, Any], line: str) -> None:
    assert told(**event) == f"03:04:05 {line}"
