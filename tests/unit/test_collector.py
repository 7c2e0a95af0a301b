"""What nothing refers to goes; what anything may still use stays."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from tqserver.build.store import Store
from tqserver.control.agent import NodeAgent
from tqserver.control.collector import Collector
from tqserver.control.journal import Journal
from tqserver.control.revisions import KEPT, Revision
from tqserver.host.tasks import TaskOwner


@dataclass(frozen=True, slots=True)
class Worker:
    digest: str


@dataclass(slots=True)
class Agent:
    workers: list[Worker] = field(default_factory=list)

    def list(self) -> list[Worker]:
        return self.workers


class HeldStore(Store):
    """A store whose listing, once made, is handed over when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.listed, self.go_on = threading.Event(), threading.Event()

    def digests(self) -> frozenset[str]:
        found = super().digests()
        self.listed.set()
        assert self.go_on.wait(30)
        return found


@dataclass(slots=True)
class Parts:
    store: HeldStore
    journal: Journal
    agent: Agent
    collector: Collector
    tasks: TaskOwner

    def publish(self, *digests: str) -> None:
        for digest in digests:
            with self.store.scratch() as scratch:
                (scratch / "artifact").mkdir()
                self.store.publish(scratch / "artifact", digest)

    async def finish(self) -> frozenset[str]:
        """Let the collector come to its end; return what it has left."""
        self.store.go_on.set()
        async with asyncio.timeout(30):
            while self.tasks._tasks:
                await asyncio.wait(set(self.tasks._tasks))
        return self.store.digests()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    failures: list[BaseException] = []
    tasks = TaskOwner(lambda _, error: failures.append(error))
    store, journal, agent = HeldStore(tmp_path / "store"), Journal(tmp_path / "journal.json"), Agent()
    yield Parts(store, journal, agent, Collector(store, journal, cast(NodeAgent, agent), tasks), tasks)
    store.go_on.set()
    await tasks.close()
    journal.save()
    assert failures == []


def digest(number: int) -> str:
    return f"{number:032x}"


async def test_the_last_revisions_of_each_page_stay(parts: Parts) -> None:
    parts.publish(*map(digest, range(30)))
    for number in range(15):
        parts.journal.went_live("a", Revision(number, digest(number)))
    parts.journal.went_live("b", Revision(1, digest(20)))
    parts.collector.soon()
    left = await parts.finish()
    assert left == {*map(digest, range(15 - KEPT, 15)), digest(20)}
    assert [path.name for path in (parts.store.path_of("00").parents[1]).glob("scratch-*")] == []


async def test_what_a_worker_runs_from_stays_until_it_has_ended(parts: Parts) -> None:
    parts.publish(digest(1), digest(2))
    parts.agent.workers = [Worker(digest(1))]
    parts.collector.soon()
    assert await parts.finish() == {digest(1)}
    parts.agent.workers = []
    parts.collector.soon()
    assert await parts.finish() == frozenset()


async def test_what_an_attempt_is_about_to_use_stays(parts: Parts) -> None:
    parts.publish(digest(1), digest(2))
    with parts.collector.claimed(digest(1)), parts.collector.claimed(digest(1)):
        parts.collector.soon()
        assert await parts.finish() == {digest(1)}
    parts.collector.soon()
    assert await parts.finish() == frozenset()


async def test_an_attempt_that_begins_while_the_store_is_listed_finds_its_artifact(parts: Parts) -> None:
    parts.publish(digest(1), digest(2))
    parts.collector.soon()
    assert await asyncio.to_thread(parts.store.listed.wait, 30)
    with parts.collector.claimed(digest(1)):
        parts.publish(digest(3))  # and what is published meanwhile by nobody the collector knows of
        assert await parts.finish() == {digest(1), digest(3)}


async def test_asked_again_while_it_works_it_looks_again(parts: Parts) -> None:
    parts.collector.soon()
    assert await asyncio.to_thread(parts.store.listed.wait, 30)
    parts.publish(digest(1))
    parts.collector.soon()
    assert await parts.finish() == frozenset()


async def test_revisions_are_remembered_across_restarts_and_pages_that_are_gone_let_go(tmp_path: Path) -> None:
    file = tmp_path / "journal.json"
    before = {"revision": 7, "modules": [], "files": [], "recent": [[7, digest(0)]]}  # as earlier versions wrote it
    file.write_text(json.dumps({"pages": {"old": before}}))
    journal = Journal(file)
    journal.went_live("old", live := Revision(journal.next_revision("old"), digest(1), 5.0, "python", "main.py", 3))
    journal.of("old").set_aside = "ab"
    journal.went_live("gone", Revision(1, digest(2)))
    journal.save()
    again = Journal(file)
    assert again.of("old").recent == (Revision(7, digest(0)), live)
    assert again.of("old").set_aside == "ab"
    again.of("old").recent = (live,)
    assert again.digests() == {digest(1), digest(2)}
    again.release_all_but({"old"})
    assert again.digests() == {digest(1)}
    assert again.of("gone").revision == 0
