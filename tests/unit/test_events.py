"""The ring of events, and what they add up to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tqserver.control.events import KEPT, Events

MOMENT = "2026-01-02T03:04:05"


def take(events: Events, event: str, level: str = "info", **fields: Any) -> None:
    whole = {**fields, "event": event, "level": level, "timestamp": MOMENT}
    events.take(whole, json.dumps(whole) + "\n")


def names(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


def test_events_are_numbered_from_one() -> None:
    events = Events()
    take(events, "a")
    take(events, "b")
    assert [json.loads(line)["number"] for line in events.since(0)] == [1, 2]
    assert names(events.since(1)) == ["b"]
    assert events.since(2) == []
    assert events.since(99) == []
    assert events.last == 2


def test_what_is_gone_is_said() -> None:
    events = Events()
    for number in range(KEPT + 5):
        take(events, f"e{number}")
    first, *others = events.since(2)
    assert json.loads(first) == {"number": 5, "event": "events.lost", "level": "warning", "count": 3}
    assert names(others) == [f"e{number}" for number in range(5, KEPT + 5)]
    assert names(events.since(5))[0] == "e5"


async def test_a_follower_misses_none_and_repeats_none() -> None:
    events = Events()
    take(events, "a")
    seen: list[str] = []

    async def follow() -> None:
        async for line in events.follow(0):
            seen.extend(names([line]))
            if seen[-1] == "a":
                take(events, "while it was sent")
            if seen[-1] == "last":
                return

    following = asyncio.ensure_future(follow())
    while len(seen) < 2:
        await asyncio.sleep(0)
    take(events, "later")
    take(events, "last")
    await following
    assert seen == ["a", "while it was sent", "later", "last"]


def test_what_events_of_a_page_add_up_to() -> None:
    events = Events()
    take(events, "revision.live", page="p", seconds=0.02)
    take(events, "worker.exited", page="p", cause="", reason="status 0")  # was told to
    assert events.of_page("p").restarts == 0
    take(events, "worker.exited", "error", page="p", cause="died", reason="killed by SIGKILL")
    history = events.of_page("p")
    assert (history.restarts, history.last_exit, history.last_reload_seconds) == (1, "killed by SIGKILL", 0.02)
    assert history.failed_at == MOMENT
    take(events, "page.gone", page="p")
    assert events.of_page("p").restarts == 0
    assert events.of_page("other").last_reload_seconds is None


def test_attempts_by_what_became_of_them() -> None:
    events = Events()
    take(events, "build.done", page="p", reused=False)
    take(events, "revision.live", page="p", seconds=0.02)
    take(events, "build.failed", "error", page="p")
    take(events, "page.still_failing", page="p")
    take(events, "build.done", page="p", reused=True)
    take(events, "page.failed", "error", page="p")
    history = events.of_page("p")
    assert history.reloads == {"live": 1, "failed": 3}
    assert history.builds == {"built": 1, "reused": 1}
    assert (sum(history.reload_durations), history.reload_seconds) == (1, 0.02)


def test_replacements_by_their_cause() -> None:
    events = Events()
    take(events, "worker.recycled", page="p", cause="max_requests")
    take(events, "worker.exited", "error", page="p", cause="memory_limit", reason="memory limit: 2 MiB of 1 MiB")
    take(events, "worker.exited", page="p", cause="", reason="status 0")  # was told to
    assert events.of_page("p").replaced == {"max_requests": 1, "memory_limit": 1}


def test_a_copy_of_what_is_known_of_a_page_stays_as_it_is() -> None:
    events = Events()
    take(events, "revision.live", page="p", seconds=0.02)
    before = events.of_page("p").copy()
    take(events, "revision.live", page="p", seconds=0.02)
    assert (before.reloads["live"], sum(before.reload_durations)) == (1, 1)


def test_the_configuration_is_invalid_until_a_valid_one_is_read() -> None:
    for mended in ("config.applied", "config.unchanged"):
        events = Events()
        take(events, "config.invalid", "error", error="x", remedy="mend it")
        assert events.problems["config"].message == "x"
        take(events, mended)
        assert "config" not in events.problems


def test_deaths_of_proxies() -> None:
    events = Events()
    take(events, "proxy.exited", "error", proxy="proxy-0")
    assert events.proxy_deaths == 1
