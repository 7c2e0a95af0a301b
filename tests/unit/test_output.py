"""What the command line prints: to pipes, to terminals of any width, to programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tqserver.cli.findings import show
from tqserver.cli.output import BAD, Cell, Column, Output, duration, fitting, megabytes, wrapped
from tqserver.model.errors import Location, PageError
from tqserver.model.status import Finding, Findings

COLUMNS = [Column("ROUTE"), Column("REV", right=True, drop=1), Column("RUNTIME", drop=2)]
ROWS = [
    [Cell("/", "bold"), Cell("12"), Cell("python")],
    [Cell("/api/users", "bold"), Cell("7"), Cell("go")],
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(as_json: bool = False, terminal: bool = False) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    return Output(as_json=as_json, stdout=out, stderr=err), out, err


def test_a_pipe_is_given_aligned_columns_and_no_escape() -> None:
    output, out, _ = printed()
    output.table(COLUMNS, ROWS)
    assert out.getvalue() == "ROUTE       REV  RUNTIME\n/            12  python\n/api/users    7  go\n"


def test_findings_are_aligned_whatever_their_names(tmp_path: Path) -> None:
    output, out, _ = printed()
    show(output, Findings([Finding("ok", "pages", "2"), Finding("ok", "pages/orders/[...rest]", "fine")]), tmp_path)
    short, long = out.getvalue().splitlines()
    assert short.index("2") == long.index("fine")


def test_a_pipe_is_given_long_lines_whole() -> None:
    output, out, _ = printed()
    output.line(Cell("✗ ", BAD), "word " * 100)
    assert out.getvalue() == "✗ " + ("word " * 100).rstrip() + "\n"


def test_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output, out, _ = printed(terminal=True)
    output.line(Cell("✗ ", BAD), "broken")
    assert out.getvalue() == "\x1b[31m✗ \x1b[0mbroken\n"


def test_a_pipe_is_given_what_others_wrote_as_it_is() -> None:
    output, out, _ = printed()
    output.text("\x1b[2J\ta\x07\x9b", Cell("page | "))
    assert out.getvalue() == "page | \x1b[2J\ta\x07\x9b\n"


def test_a_terminal_is_shown_control_characters_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    output, out, err = printed(terminal=True)
    output.text("\x1b[2J\ta\x07\x9b", Cell("page | "))
    output.block("first\n\x1b]0;title\x07")
    output.error(PageError("no", output="\x1b[2J"))
    assert out.getvalue() == "page | \\x1b[2J\ta\\x07\\x9b\n    first\n    \\x1b]0;title\\x07\n"
    assert err.getvalue() == "tqserver: no\n    \\x1b[2J\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    output, out, _ = printed(terminal=True)
    output.line(Cell("✗ ", BAD), "broken")
    output.table(COLUMNS, ROWS)
    assert "\x1b[3" not in out.getvalue()
    assert "/api/users" in out.getvalue()


@pytest.mark.parametrize(
    ("width", "titles"),
    [(80, "ROUTE REV RUNTIME"), (24, "ROUTE REV RUNTIME"), (23, "ROUTE REV"), (14, "ROUTE"), (3, "ROUTE")],
)
def test_a_narrow_terminal_is_shown_fewer_columns(width: int, titles: str) -> None:
    shown = fitting(COLUMNS, ROWS, width)
    assert " ".join(COLUMNS[place].title for place in shown) == titles


def test_lines_are_cut_between_words_and_indented() -> None:
    lines = wrapped([Cell("✗ ", BAD), Cell("one two three four")], 10)
    assert ["".join(cell.text for cell in line).rstrip() for line in lines] == [
        "✗ one two",
        "      three",
        "      four",
    ]
    assert lines[0][0] == Cell("✗ ", BAD)


def test_a_word_that_is_longer_than_the_terminal_stays_whole() -> None:
    lines = wrapped([Cell("a" * 30)], 10)
    assert ["".join(cell.text for cell in line) for line in lines] == ["a" * 30]


def test_indentation_survives() -> None:
    assert "".join(cell.text for cell in wrapped([Cell("    remedy")], 80)[0]) == "    remedy"


def test_a_document_is_one_line_of_json() -> None:
    output, out, _ = printed(as_json=True)
    output.document(Finding("ok", "python", "3.11"))
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == {"level": "ok", "name": "python", "found": "3.11", "remedy": "", "where": ""}


def test_an_error_for_people_goes_to_stderr_with_its_output() -> None:
    output, out, err = printed()
    output.error(PageError("no", remedy="do", location=Location("a.py", 3), output="Traceback\n  line\n"))
    assert out.getvalue() == ""
    assert err.getvalue() == "tqserver: a.py:3: no (do)\n    Traceback\n      line\n"


def test_an_error_for_programs_is_the_document() -> None:
    output, out, err = printed(as_json=True)
    output.error(PageError("no", remedy="do", location=Location("a.py", 3)))
    assert json.loads(out.getvalue())["error"] == {
        "message": "no", "remedy": "do", "where": "a.py:3", "output": "", "exit_code": 5,
    }  # fmt: skip
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00042, "0.4 ms"),
        (0.0264, "26 ms"),
        (1.95, "1.9 s"),
        (12.3, "12 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (356400, "4 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_megabytes() -> None:
    assert megabytes(52469760) == "52 MB"
