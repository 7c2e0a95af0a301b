"""Whose directory is it, and what becomes of a Python page."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build.conftest import PageOf, Write
from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import RUNTIMES, by_name, detect
from tqserver.model.errors import PageError

GO = "// Package main is a page.\npackage main\n\nfunc main() {}\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"main.py": ""}, ("python", "main.py")),
        ({"b.go": GO, "a.go": "package main"}, ("go", "a.go")),
        ({"a.go": "/* package main\n*/ package lib", "b.go": GO}, ("go", "b.go")),
        ({"a.go": "\ufeff" + GO}, ("go", "a.go")),
        ({"main.py": "", "a.go": "package lib"}, ("python", "main.py")),
        ({"main.py": "", "gen.go": "//go:build ignore\n\n" + GO}, ("python", "main.py")),
        ({"main.py": "", "main_test.go": GO, "_old.go": GO}, ("python", "main.py")),
        ({"main.py": "", "main.go": GO, "page.yaml": "runtime: go  # since June"}, ("go", "main.go")),
        ({"main.py": "", "main.go": GO, "page.yaml": "runtime: python"}, ("python", "main.py")),
        ({}, None),
        ({"a.go": "package lib", "notes.txt": "package main"}, None),
        ({"a.go": ""}, ("go", "a.go")),
        ({"a.go": "pakage main"}, ("go", "a.go")),
        ({"a.go": "pakage main", "b.go": GO}, ("go", "b.go")),
        ({"a.go": "//go:build ignore\n\npackage main"}, None),
    ],
)
def test_detection(write: Write, root: Path, files: dict[str, str], wanted: tuple[str, str] | None) -> None:
    for name, text in files.items():
        write(f"pages/a/{name}", text)
    (root / "pages/a").mkdir(exist_ok=True)
    found = detect(root / "pages/a")
    assert (found and (found[0].name, found[1])) == wanted


def test_a_directory_called_like_an_entry_file_is_none(root: Path) -> None:
    (root / "pages/a/main.py").mkdir(parents=True)
    assert detect(root / "pages/a") is None


@pytest.mark.parametrize("name", ["main.py", "main.go"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: file.symlink_to("nowhere"), "leads nowhere"),
        (lambda file: file.symlink_to(file), "leads back to itself"),
        (os.mkfifo, "no regular file"),
    ],
    ids=["dangling", "loop", "pipe"],
)
async def test_an_entry_file_that_cannot_be_read_is_a_page_that_says_so(
    root: Path, page_of: PageOf, pipeline: Pipeline, make: Callable[[Path], None], name: str, said: str
) -> None:
    (root / "pages/a").mkdir()
    make(root / "pages/a" / name)
    with pytest.raises(PageError, match=said) as caught:
        await pipeline.read(page_of("a"), [])
    assert caught.value.remedy and name in str(caught.value.location)


def test_two_languages_are_refused_naming_both_and_the_remedy(write: Write, root: Path) -> None:
    write("pages/a/main.py")
    write("pages/a/server.go", GO)
    with pytest.raises(PageError) as caught:
        detect(root / "pages/a")
    assert "server.go (go) and main.py (python)" in caught.value.message
    assert "runtime: go" in caught.value.remedy and "page.yaml" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("runtme: go\n", "unknown key runtme", 1),
        ("# a page\nruntime: python\nenvironment: {}\n", "unknown key environment", 3),
        ("runtime: perl\n", "unknown runtime perl", 1),
        ("runtime: [go]\n", "unknown runtime of type seq", 1),
        ("[runtime]: go\n", "unknown key of type seq", 1),
        ("runtime: go\nruntime: python\n", "runtime is there twice", 2),
        ("\n- runtime\n", "expected keys with values", 2),
        ("runtime: 'go\n", "not YAML", 2),
        ("runtime:\n  " + "[" * 100_000, "100 levels deep", 2),
        ("", "names no runtime", 0),
        ("runtime: go\n", "no entry file for the runtime go", 0),
    ],
)
def test_page_yaml_is_strict(write: Write, root: Path, text: str, said: str, line: int) -> None:
    write("pages/a/main.py")
    file = write("pages/a/page.yaml", text)
    with pytest.raises(PageError, match=said) as caught:
        detect(root / "pages/a")
    assert caught.value.location is not None and caught.value.location.file == str(file)
    assert caught.value.location.line == line


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "no regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "no regular file"),
        (lambda file: file.symlink_to("/proc/self/status"), "the kernel's own"),
        (lambda file: file.write_bytes(bytes(2**21)), "larger than 1024 KiB"),
        (lambda file: file.symlink_to("nowhere"), "No such file"),
        (lambda file: file.write_bytes(b"runtime: caf\xe9\n"), "not UTF-8"),
    ],
    ids=["pipe", "device", "proc", "large", "dangling", "latin-1"],
)
def test_a_page_yaml_that_is_no_text_is_refused_and_not_waited_for(
    write: Write, root: Path, make: Callable[[Path], None], said: str
) -> None:
    write("pages/a/main.py")
    make(root / "pages/a/page.yaml")
    with pytest.raises(PageError, match=said) as caught:
        detect(root / "pages/a")
    assert caught.value.remedy and "page.yaml" in str(caught.value.location)


def test_every_runtime_is_known_by_its_name() -> None:
    assert all(by_name(name).name == name for name in RUNTIMES)


async def test_a_python_artifact_is_the_page_as_it_was_read(
    write: Write, page_of: PageOf, pipeline: Pipeline, root: Path
) -> None:
    write("pages/a/main.py", "x = 1")
    write("pages/a/_parts/row.html", "<tr>")
    write("pages/a/tool.sh", "#!/bin/sh", mode=0o755)
    write("pages/a/public/logo.svg", "<svg/>")
    write("pages/a/nested/main.py", "no part of it")
    shared = write("lib/shared.py", "no part of it either")
    page = page_of("a", "nested")
    source = await pipeline.read(page, [shared])
    write("pages/a/main.py", "x = 2")
    artifact = (await pipeline.build(page, source)).path
    found = sorted(os.path.relpath(file, artifact) for file in artifact.rglob("*") if file.is_file())
    assert found == ["_parts/row.html", "main.py", "tool.sh"]
    assert (artifact / "main.py").read_text() == "x = 1"
    assert os.access(artifact / "tool.sh", os.X_OK) and not os.access(artifact / "main.py", os.X_OK)
    launch = by_name("python").launch(page, artifact)
    assert launch.argv == () and not launch.needs_port
