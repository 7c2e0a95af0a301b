"""Which directories are pages, whatever links and names there are beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tqserver.control import discovery
from tqserver.control.discovery import discover


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Give a project's pages with one page in it."""
    (tmp_path / "project/pages/ok").mkdir(parents=True)
    (tmp_path / "project/pages/ok/main.py").write_text("def get(): ...")
    return tmp_path / "project/pages"


@pytest.mark.parametrize("place", ["link", "ok/link"])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/", "leads back to a directory above"),
        ("{project}", "leads back to a directory above"),
        ("{project}/pages", "leads back to a directory above"),
        ("/proc", "the kernel's own"),
        ("/proc/self/root", "leads back to a directory above"),
        ("/sys/kernel", "the kernel's own"),
        ("/dev", "the kernel's own"),
    ],
)
def test_a_link_to_the_whole_machine_is_refused(pages: Path, place: str, target: str, said: str) -> None:
    (pages / place).symlink_to(target.format(project=pages.parent))
    found = discover(pages)
    assert set(found.pages) == {"ok"}
    assert [(problem.page, problem.error.remedy) for problem in found.problems] == [(place, "remove the link")]
    assert said in found.problems[0].error.message


def test_a_link_that_leads_to_half_the_machine_takes_nothing_else_along(
    pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MOST_LINKED", 5)
    for number in range(6):
        (tmp_path / f"large/{number}").mkdir(parents=True)
        (tmp_path / f"large/{number}/main.py").touch()
    (tmp_path / "small/page").mkdir(parents=True)
    (tmp_path / "small/page/main.py").touch()
    (pages / "large").symlink_to(tmp_path / "large")
    (pages / "small").symlink_to(tmp_path / "small")
    found = discover(pages)
    assert set(found.pages) == {"ok", "small/page"}
    assert [problem.page for problem in found.problems] == ["large"]
    assert "begin with _" in found.problems[0].error.remedy
    (pages / "large").rename(pages / "_large")
    assert discover(pages).problems == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nFAKE", "a\\nFAKE"), ("a\x1b[31m", "a\\x1b[31m"), ("a\x7f", "a\\x7f"), ("a\u202eb", "a\\u202eb")],
)
def test_a_name_that_would_move_the_cursor_is_refused_and_spelled_out(pages: Path, name: str, shown: str) -> None:
    (pages / name).mkdir()
    (pages / name / "main.py").touch()
    found = discover(pages)
    assert set(found.pages) == {"ok"}
    problem = found.problems[0]
    assert problem.page == shown and str(problem.error).isprintable() and problem.error.remedy == "rename it"


def test_a_ladder_without_end_is_named(pages: Path) -> None:
    pages.joinpath(*["deep"] * 300).mkdir(parents=True)
    found = discover(pages)
    assert set(found.pages) == {"ok"}
    assert len(found.problems) == 1
    assert "more than 100 deep" in found.problems[0].error.message and found.problems[0].error.remedy


@pytest.mark.parametrize(
    ("name", "shown"), [(b"a\xffb", r"a\xffb"), (b"a\xff\x1b[2Jb", r"a\xff\x1b[2Jb")], ids=["bytes", "and control"]
)
def test_a_name_that_no_url_can_name_is_refused_and_spelled_out(pages: Path, name: bytes, shown: str) -> None:
    os.mkdir(os.fsencode(pages) + b"/" + name)
    (problem,) = discover(pages).problems
    assert problem.page == shown and str(problem.error).isprintable() and problem.error.remedy == "rename it"
    assert "not valid UTF-8" in problem.error.message
