"""Reloads as spans of time."""

from __future__ import annotations

from typing import Any

from tqserver.control.spans import Reload, Reloads, Span

LIVE = {"route": "/p", "digest": "ab", "seconds": 0.1}


class Story:
    """Events of one page, one each second."""

    def __init__(self) -> None:
        self.reloads = Reloads()
        self.now = 0.0

    def tell(self, *events: str, revision: int = 1, **fields: Any) -> Reload | None:
        """Return what the last of them completes; those before it complete nothing."""
        told = None
        for event in events:
            assert told is None
            self.now += 1.0
            told = self.reloads.take({"event": event, "page": "p", "revision": revision, **LIVE, **fields}, self.now)
        return told


WHOLE = {"tqserver.page": "p", "http.route": "/p", "tqserver.revision": 1, "tqserver.digest": "ab"}


def test_the_steps_of_a_first_revision_have_no_gap() -> None:
    reload = Story().tell("build.started", "build.done", "worker.ready", "revision.live")
    steps = (Span("build", 1.0, 2.0), Span("start", 2.0, 3.0), Span("publish", 3.0, 4.0))
    assert reload == Reload(Span("reload", 1.0, 4.0, WHOLE), steps)


def test_the_drain_of_the_old_revision_is_a_step_of_the_reload_that_ended_it() -> None:
    story = Story()
    story.tell("build.started", "build.done", "worker.ready", "revision.live")
    assert story.tell("build.started", "build.done", "worker.ready", "revision.live", revision=2) is None
    reload = story.tell("revision.retired", revision=1)
    assert reload is not None
    assert reload.whole.ended == 8.0
    assert reload.steps[-1] == Span("drain", 8.0, 9.0, {"tqserver.revision": 1})


def test_several_workers_are_one_start() -> None:
    reload = Story().tell("build.started", "build.done", "worker.ready", "worker.ready", "revision.live")
    assert reload is not None
    assert [(step.name, step.begun, step.ended) for step in reload.steps[1:]] == [
        ("start", 2.0, 4.0),
        ("publish", 4.0, 5.0),
    ]


def test_without_a_worker_that_is_started_the_last_step_goes_on_to_the_end() -> None:
    reload = Story().tell("build.started", "build.done", "revision.live")  # min_workers: 0
    assert reload is not None
    assert [(step.name, step.ended) for step in reload.steps] == [("build", 2.0), ("start", 3.0)]


def test_a_failure_ends_it_with_the_steps_that_it_came_to() -> None:
    reload = Story().tell("build.started", "build.failed", error="no")
    assert reload == Reload(Span("reload", 1.0, 2.0, {"tqserver.page": "p"}, "no"), (Span("build", 1.0, 2.0),))


def test_of_an_attempt_that_newer_content_supersedes_nothing_is_told() -> None:
    story = Story()
    story.tell("build.started", "build.done")
    reload = story.tell("build.started", "build.done", "worker.ready", "revision.live")
    assert reload is not None
    assert reload.whole.begun == 3.0


def test_workers_that_are_replaced_are_no_reload() -> None:
    story = Story()
    story.tell("build.started", "build.done", "worker.ready", "revision.live")
    assert story.tell("worker.ready", "page.failed", error="no") is None


def test_at_the_end_what_still_drains_is_told_without() -> None:
    story = Story()
    story.tell("build.started", "build.done", "worker.ready", "revision.live")
    story.tell("build.started", "build.done", "worker.ready", "revision.live", revision=2)
    (rest,) = story.reloads.rest()
    assert [step.name for step in rest.steps] == ["build", "start", "publish"]
    assert story.reloads.rest() == []


def test_a_page_that_came_back_drains_nothing() -> None:
    story = Story()
    story.tell("build.started", "build.done", "worker.ready", "revision.live")
    story.tell("page.gone")
    assert story.tell("build.started", "build.done", "worker.ready", "revision.live", revision=2) is not None
