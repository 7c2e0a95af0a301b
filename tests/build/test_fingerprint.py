"""The digest says all that can change the result, and nothing else."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.build.conftest import PageOf, Write
from tqserver.build import files
from tqserver.build.contents import read_contents
from tqserver.build.files import Unfinished, Unsettled, page_files
from tqserver.build.fingerprint import digest_of
from tqserver.build.pipeline import Pipeline
from tqserver.build.runtimes.base import Inputs, Project
from tqserver.model.errors import PageError
from tqserver.model.pages import Page


@pytest.fixture
def page(write: Write, page_of: PageOf) -> Page:
    write("pages/a/main.py", "x = 1")
    write("pages/a/helper.py", "y = 2")
    return page_of("a")


def names(page: Page) -> list[str]:
    return [os.path.relpath(file, page.directory) for file in page_files(page)]


async def test_one_content_has_one_digest(page: Page, pipeline: Pipeline, root: Path) -> None:
    first = (await pipeline.read(page, [])).digest
    (root / "pages/a/main.py").touch()
    assert (await pipeline.read(page, [])).digest == first
    assert len(first) == 32 and int(first, 16)


async def test_two_edits_of_one_length_in_one_second_differ(page: Page, pipeline: Pipeline, write: Write) -> None:
    first = (await pipeline.read(page, [])).digest
    before = (file := Path(page.directory, "main.py")).stat()
    write("pages/a/main.py", "x = 2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await pipeline.read(page, [])).digest != first


async def test_a_rename_a_mode_and_a_new_file_count(page: Page, pipeline: Pipeline, root: Path, write: Write) -> None:
    seen = {(await pipeline.read(page, [])).digest}
    (root / "pages/a/helper.py").rename(root / "pages/a/other.py")
    seen.add((await pipeline.read(page, [])).digest)
    (root / "pages/a/other.py").chmod(0o755)
    seen.add((await pipeline.read(page, [])).digest)
    write("pages/a/deep/down/new.txt")
    seen.add((await pipeline.read(page, [])).digest)
    assert len(seen) == 4


async def test_content_does_not_run_from_one_file_into_the_next(page: Page, pipeline: Pipeline, write: Write) -> None:
    write("pages/a/helper.py", "ab")
    write("pages/a/helpes.py", "c")
    first = (await pipeline.read(page, [])).digest
    write("pages/a/helper.py", "a")
    write("pages/a/helpes.py", "bc")
    assert (await pipeline.read(page, [])).digest != first


async def test_shared_files_count_and_one_that_is_gone_does_not(page: Page, pipeline: Pipeline, write: Write) -> None:
    alone = (await pipeline.read(page, [])).digest
    shared = write("lib/shared.py", "z = 1")
    first = await pipeline.read(page, [shared])
    write("lib/shared.py", "z = 2")
    second = await pipeline.read(page, [shared])
    assert len({alone, first.digest, second.digest}) == 3
    assert first.outside == {str(shared)}
    shared.unlink()
    assert (await pipeline.read(page, [shared])).digest == alone


async def test_mode_and_facts_count_and_order_does_not(page: Page, project: Project) -> None:
    found = page_files(page)
    contents = await read_contents(found)
    shuffled = list(contents.items())
    random.Random(1).shuffle(shuffled)

    def digest(facts: dict[str, str], where: Project = project) -> str:
        return digest_of(page, where, Inputs(found, facts), contents)

    assert digest({"b": "1", "a": "2"}) == digest_of(
        page, project, Inputs(found[::-1], {"a": "2", "b": "1"}), dict(shuffled)
    )
    assert len({digest({}), digest({"go": "1"}), digest({"go": "2"})}) == 3
    assert digest({}) != digest({}, Project(project.root, "prod"))


def test_what_is_no_part_of_a_page(write: Write, page_of: PageOf) -> None:
    write("pages/a/main.py")
    write("pages/a/_lib/code.py")
    write("pages/a/b/main.py")
    no_part = (
        "main.py~ .#main.py .main.py.swp 4913 #main.py# main.pyc .git/config __pycache__/x.py "
        "node_modules/x.js public/logo.svg page.log main.py.tmp main.py___jb_tmp___"
    )
    for name in no_part.split():
        write(f"pages/a/{name}")
    assert names(page_of("a", "b")) == ["_lib/code.py", "main.py"]


async def test_links_are_followed_to_what_they_name_now(page: Page, pipeline: Pipeline, write: Write) -> None:
    one, two = write("shared/one/x.txt", "1").parent, write("shared/two/x.txt", "2").parent
    link = Path(page.directory, "data")
    link.symlink_to(one)
    first = (await pipeline.read(page, [])).digest
    assert names(page) == ["data/x.txt", "helper.py", "main.py"]
    link.unlink()
    link.symlink_to(two)
    assert (await pipeline.read(page, [])).digest != first


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (".", "leads back to a directory above"),
        ("loop", "leads back to itself"),
        ("nothing", "leads nowhere"),
        ("/", "leads back to a directory above"),
        ("../..", "leads back to a directory above"),
        ("/proc", "the kernel's own files"),
        ("/proc/kmsg", "the kernel's own files"),
    ],
)
async def test_a_bad_link_is_named(page: Page, pipeline: Pipeline, target: str, said: str) -> None:
    Path(page.directory, "loop").symlink_to(target)
    with pytest.raises(PageError, match=said) as caught:
        await pipeline.read(page, [])
    assert caught.value.remedy and "loop" in str(caught.value.location)


def test_a_page_has_an_end(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    assert len(page_files(page)) == 2
    Path(page.directory, "more.txt").touch()
    with pytest.raises(PageError, match="more than 2 files") as caught:
        page_files(page)
    assert caught.value.remedy
    Path(page.directory, "more.txt").unlink()
    Path(page.directory, *["deep"] * 300).mkdir(parents=True)
    with pytest.raises(PageError, match="more than 100 deep") as caught:
        page_files(page)
    assert caught.value.remedy


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root can read everything; tests/system/test_bad_input.py takes that right away"
)
@pytest.mark.parametrize("name", ["helper.py", "secret"])
async def test_what_cannot_be_read_is_named(page: Page, pipeline: Pipeline, name: str) -> None:
    path = Path(page.directory, name)
    if not path.exists():
        path.mkdir()
    path.chmod(0)
    try:
        with pytest.raises(PageError, match="cannot read") as caught:
            await pipeline.read(page, [])
    finally:
        path.chmod(0o755)
    assert caught.value.remedy and name in str(caught.value.location)


async def test_a_read_that_is_refused_is_named(page: Page, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PageError, match="Permission denied") as caught:
        await pipeline.read(page, [])
    assert "readable" in caught.value.remedy


def test_a_name_that_is_no_text_is_named(page: Page) -> None:
    os.close(os.open(os.fsencode(page.directory) + b"/caf\xe9.txt", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(PageError, match=r"caf\\\\xe9") as caught:
        page_files(page)
    assert caught.value.remedy == "rename it"


async def test_what_vanishes_is_looked_at_again(page: Page, root: Path) -> None:
    found = page_files(page)
    (root / "pages/a/helper.py").unlink()
    with pytest.raises(Unsettled):
        await read_contents(found)
    (root / "pages/a").rename(root / "pages/b")
    with pytest.raises(Unsettled):
        page_files(page)


async def test_an_entry_file_that_is_being_replaced_is_looked_at_again(
    page: Page, pipeline: Pipeline, root: Path
) -> None:
    (root / "pages/a/main.py").rename(root / "pages/a/main.py~")
    with pytest.raises(Unsettled):
        await pipeline.read(page, [])


async def test_an_empty_entry_file_is_taken_for_one_that_is_being_written(
    page: Page, pipeline: Pipeline, write: Write
) -> None:
    write("pages/a/helper.py", "")
    assert (await pipeline.read(page, [])).digest
    entry = write("pages/a/main.py", "")
    with pytest.raises(Unfinished) as caught:
        await pipeline.read(page, [])
    assert str(caught.value.error.location) == str(entry) and caught.value.error.remedy


async def test_a_pipe_is_not_waited_for(page: Page, pipeline: Pipeline) -> None:
    first = (await pipeline.read(page, [])).digest
    os.mkfifo(Path(page.directory, "pipe"))
    assert (await pipeline.read(page, [])).digest == first
