"""A page with data beside its code is no burden to the others: neither to the event loop, nor to memory."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.build.conftest import PageOf, Write
from tqserver.build import contents
from tqserver.build.files import Unsettled
from tqserver.build.pipeline import Pipeline
from tqserver.host import reading
from tqserver.host.threads import Abandoned, Check, in_thread
from tqserver.model.errors import PageError
from tqserver.model.pages import Page

LARGE = contents.HELD_BYTES + 1


@pytest.fixture
def page(write: Write, page_of: PageOf) -> Page:
    """Give a page that is too large to be held."""
    write("pages/a/main.py", "x = 1")
    data = write("pages/a/data.bin")
    data.write_bytes(os.urandom(LARGE))
    return page_of("a")


async def test_a_large_page_is_not_held_and_its_artifact_is_what_it_was(page: Page, pipeline: Pipeline) -> None:
    source = await pipeline.read(page, [])
    assert all(content.held is None for content in source.contents.values())
    artifact = (await pipeline.build(page, source)).path
    for name in ("main.py", "data.bin"):
        assert (artifact / name).read_bytes() == Path(page.directory, name).read_bytes()


async def test_one_byte_in_it_counts(page: Page, pipeline: Pipeline) -> None:
    before = (await pipeline.read(page, [])).digest
    with Path(page.directory, "data.bin").open("r+b") as data:
        data.seek(LARGE - 1)
        last = data.read(1)[0]
        data.seek(LARGE - 1)
        data.write(bytes([last ^ 1]))
    assert (await pipeline.read(page, [])).digest != before


async def test_the_digest_does_not_depend_on_the_way_of_reading(
    write: Write, page_of: PageOf, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("pages/a/main.py", "x = 1" * 1000)
    held = await pipeline.read(page_of("a"), [])
    monkeypatch.setattr(contents, "HELD_BYTES", 1)
    assert (await pipeline.read(page_of("a"), [])).digest == held.digest


async def test_small_pages_start_no_thread(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/a/main.py", "x = 1")
    with pytest.raises(StopIteration) as done:
        pipeline.read(page_of("a"), []).send(None)  # it never gives way to the loop
    assert done.value.value.digest


@pytest.mark.parametrize("text", ["x = 2", "x = 1\n", "", None], ids=["other", "longer", "empty", "gone"])
async def test_what_changes_before_it_is_copied_is_never_published(
    page: Page, pipeline: Pipeline, text: str | None
) -> None:
    source = await pipeline.read(page, [])
    file = Path(page.directory, "main.py")
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(Unsettled):
        await pipeline.build(page, source)


async def test_a_file_that_is_beyond_all_measure_is_named_and_not_read(
    write: Write, page_of: PageOf, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("pages/a/main.py", "x = 1")
    with write("pages/a/data.bin").open("r+b") as data:
        data.truncate(2**40)
    begun = []
    opened = reading.opened
    monkeypatch.setattr(reading, "opened", lambda file: begun.append(file) or opened(file))
    with pytest.raises(PageError, match="larger than 256 MiB") as caught:
        await pipeline.read(page_of("a"), [])
    assert str(caught.value.location).endswith("data.bin") and "public/" in caught.value.remedy
    assert len(begun) <= 2  # what would have been held, until it was seen that it is too much


async def test_small_files_that_are_too_much_together_are_refused(
    write: Write, page_of: PageOf, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "HELD_BYTES", 10)
    monkeypatch.setattr(contents, "MOST_BYTES", 100)
    for number in range(11):
        write(f"pages/a/{number}.txt", "x" * 9)
    write("pages/a/main.py", "x = 1")
    assert write("pages/a/10.txt", "")
    assert (await pipeline.read(page_of("a"), [])).digest
    write("pages/a/10.txt", "x" * 9)
    with pytest.raises(PageError, match="together larger"):
        await pipeline.read(page_of("a"), [])


async def test_whoever_is_cancelled_leaves_no_thread_at_work() -> None:
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(check: Check) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                check()
        except Abandoned:
            ended.set()
            raise

    task = asyncio.create_task(in_thread(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
