"""The server's words on a terminal, and the files of its pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.watching import RecordedLog
from tqserver.host import log
from tqserver.host.log import DatedFile, for_people, page_log
from tqserver.model.text import many_lines, one_line

TEMPLATE = "logs/tqworker_{path}_2026-01-01.log"
LONG = "/".join(["a" * 250] * 4)
SEGMENTS = st.text(st.sampled_from("ab_[]é~"), min_size=1, max_size=3).filter(lambda name: name[0] != "_")


def file_of(page: str) -> str:
    file = page_log(Path("/p"), TEMPLATE, page)
    assert file is not None
    return file.path()


def test_a_log_is_called_after_its_page() -> None:
    assert file_of("index") == "/p/logs/tqworker_index_2026-01-01.log"
    assert file_of("api/users/[id]") == "/p/logs/tqworker_api_users_[id]_2026-01-01.log"
    assert file_of("a_b") == "/p/logs/tqworker_a__b_2026-01-01.log"


@given(st.lists(SEGMENTS, min_size=1, max_size=4), st.lists(SEGMENTS, min_size=1, max_size=4))
def test_two_pages_have_two_logs(one: list[str], other: list[str]) -> None:
    assert (file_of("/".join(one)) == file_of("/".join(other))) == (one == other)


@pytest.mark.parametrize("page", ["a" * 255, LONG, "é" * 127, "_".join("a" * 128)])
def test_a_long_name_is_shortened_and_stays_its_own(tmp_path: Path, page: str) -> None:
    file, other = page_log(tmp_path, TEMPLATE, page), page_log(tmp_path, TEMPLATE, page[:-1] + "b")
    assert file is not None and other is not None
    for each in (file, other):
        each.write(b"said\n")
        each.close()
    assert sorted(path.read_text() for path in (tmp_path / "logs").iterdir()) == ["said\n", "said\n"]


def test_output_that_cannot_be_written_is_an_event_that_names_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = RecordedLog()
    monkeypatch.setattr(log, "get_logger", lambda _: said)
    (tmp_path / "logs").touch()
    file = page_log(tmp_path, TEMPLATE, "a")
    assert file is not None
    file.write(b"lost\n")
    (tmp_path / "logs").unlink()
    file.write(b"said\n")
    file.close()
    assert [(level, event, fields["page"]) for level, event, fields in said.lines] == [
        ("warning", "output.not_written", "a")
    ] * 2
    assert "being lost" in said.lines[0][2]["error"] and "5 bytes were lost" in said.lines[1][2]["error"]


def test_an_event_is_one_line_whatever_others_put_into_it() -> None:
    evil = "a\nFAKE b\x1b[31m\x9b\x7f\u2028\u202e"
    shown = for_people(
        {"event": evil, "timestamp": "2026-01-01T12:00:00", "page": evil, evil: 1, "output": "one\n\ttwo\x1b[2J\r\n"},
        colours=False,
    )
    assert shown.splitlines() == shown.removesuffix("\n").split("\n")
    assert len(shown.splitlines()) == 3
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert "\\nFAKE b\\x1b[31m\\x9b\\x7f\\u2028\\u202e" in shown and "    \ttwo\\x1b[2J\\r\n" in shown


@given(st.text())
def test_nothing_else_is_changed(text: str) -> None:
    plain = "".join(character for character in text if character.isprintable())
    assert one_line(plain) == many_lines(plain) == plain
    assert os.linesep not in one_line(text)


def test_a_configuration_that_is_applied_leaves_no_file_open(tmp_path: Path) -> None:
    """The log is set up anew each time, and the one before is not written to any more."""
    try:
        for number in range(3):
            log.configure(quiet=True, file=DatedFile(tmp_path / f"{number}.log", {}))
            log.get_logger("test").info("said")
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        held = [os.readlink(link) for link in links if os.path.lexists(link)]
        assert [path for path in held if path.startswith(str(tmp_path))] == [str(tmp_path / "2.log")]
    finally:
        log.configure(quiet=True, file=None)
