"""The last lines of a file, whatever is before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tqserver.control.logs import last_lines


@pytest.mark.parametrize(
    ("text", "count", "lines"),
    [
        ("", 3, []),
        ("a\nb\nc\nd\n", 3, ["b", "c", "d"]),
        ("a\nb", 3, ["a", "b"]),
        ("a\n\nb\n", 2, ["", "b"]),
        ("a\nb\n", 0, []),
        ("x" * 200_000 + "\nlast\n", 1, ["last"]),
        ("\n".join(f"{n:0100}" for n in range(3000)), 2, [f"{2998:0100}", f"{2999:0100}"]),
        ("\n".join(f"{n:0100}" for n in range(3000)), 2999, [f"{n:0100}" for n in range(1, 3000)]),
    ],
    ids=["empty", "plain", "unfinished", "blank", "none", "long", "blocks", "most blocks"],
)
def test_the_last_lines(tmp_path: Path, text: str, count: int, lines: list[str]) -> None:
    file = tmp_path / "log"
    file.write_text(text)
    assert last_lines(str(file), count) == lines


def test_a_line_that_begins_before_the_block_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("first\n" + "x" * 100_000 + "\n")
    assert last_lines(str(file), 1) == ["x" * 100_000]


def test_no_file_yet(tmp_path: Path) -> None:
    assert last_lines(str(tmp_path / "none"), 5) == []
