"""A reload as spans of time, read from the log's events. Pure: moments are parameters, seconds since the epoch.

::

    reload  build.started ............................ revision.live, or what it failed with
      build   build.started .. build.done
      start                    build.done .. worker.ready
      publish                                worker.ready .. revision.live
      drain                                                  revision.live .. revision.retired

The last is the end of the revision before it, after the reload itself is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Span:
    """What took from ``begun`` to ``ended``. ``error`` is what it failed with, "" if it did not."""

    name: str
    begun: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reload:
    """A whole one, and its steps."""

    whole: Span
    steps: tuple[Span, ...]


@dataclass(slots=True)
class _Attempt:
    """Under way. ``built`` and ``ready`` are 0 until it has come to that."""

    begun: float
    built: float = 0.0
    ready: float = 0.0

    def steps(self, ended: float) -> tuple[Span, ...]:
        moments = {"build": self.begun, "start": self.built, "publish": self.ready}
        reached = [(name, moment) for name, moment in moments.items() if moment]
        ends = [moment for _, moment in reached[1:]] + [ended]
        return tuple(Span(name, begun, end) for (name, begun), end in zip(reached, ends, strict=True))


class Reloads:
    """Follows the attempts of all pages. Newer content supersedes an attempt: then there is nothing to tell of it."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}
        self._live: dict[str, int] = {}  # page -> revision
        self._draining: dict[tuple[str, int], Reload] = {}  # by the revision that it ends

    def take(self, event: Mapping[str, Any], now: float) -> Reload | None:
        """Take an event; return the reload that it completes."""
        page = event.get("page", "")
        match event["event"]:
            case "build.started":
                self._attempts[page] = _Attempt(now)
            case "build.done" if page in self._attempts:
                self._attempts[page].built = now
            case "worker.ready" if page in self._attempts:
                self._attempts[page].ready = now
            case "revision.live" if page in self._attempts:
                return self._went_live(page, event, now)
            case "build.failed" | "page.failed" | "page.still_failing" if page in self._attempts:
                attempt = self._attempts.pop(page)
                whole = Span("reload", attempt.begun, now, {"tqserver.page": page}, str(event["error"]))
                return Reload(whole, attempt.steps(now))
            case "revision.retired":
                return self._retired(page, event["revision"], now)
            case "page.gone":
                self._attempts.pop(page, None)
                self._live.pop(page, None)
        return None

    def _went_live(self, page: str, event: Mapping[str, Any], now: float) -> Reload | None:
        attempt = self._attempts.pop(page)
        attributes = {
            "tqserver.page": page,
            "http.route": event["route"],
            "tqserver.revision": event["revision"],
            "tqserver.digest": event["digest"],
        }
        reload = Reload(Span("reload", attempt.begun, now, attributes), attempt.steps(now))
        before, self._live[page] = self._live.get(page), event["revision"]
        if before is None:
            return reload
        self._draining[page, before] = reload
        return None

    def _retired(self, page: str, revision: int, now: float) -> Reload | None:
        reload = self._draining.pop((page, revision), None)
        if reload is None:
            return None
        drain = Span("drain", reload.whole.ended, now, {"tqserver.revision": revision})
        return Reload(reload.whole, (*reload.steps, drain))

    def rest(self) -> list[Reload]:
        """Return those whose old revision is not at its end: nothing more will be heard of it."""
        rest = list(self._draining.values())
        self._draining.clear()
        return rest
