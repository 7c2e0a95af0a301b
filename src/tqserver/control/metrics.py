"""All that is measured, at one moment: what ``/metrics`` is made of.

Nothing is counted here. Requests are counted by the proxies and added up by ``load``; reloads, builds and
replacements are what the log says of them (``events``); all else is seen by ``status``. So no figure is kept twice, and
none can differ from what ``tqserver status`` shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tqserver.control.events import PageHistory
from tqserver.control.load import Answers
from tqserver.control.running import Running
from tqserver.control.status import observe
from tqserver.host.usage import Usage, usage
from tqserver.model.status import PageStatus, Status


@dataclass(frozen=True, slots=True)
class Measured:
    """One page: its status, what was answered of it, and what its events add up to."""

    page: PageStatus
    answers: Answers
    history: PageHistory


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole server. It shares nothing that changes with the server, so another thread may work on it.

    ``pages`` are by route, one for each. ``unrouted`` are the requests that no page answers. ``processes`` are the
    programs that serve, by name: control and the proxies.
    """

    status: Status
    pages: Mapping[str, Measured]
    unrouted: Answers
    connections: int
    proxy_deaths: int
    config_invalid: bool
    processes: Mapping[str, Usage]


def read(running: Running) -> Reading:
    """Look at everything now."""
    status = observe(running)
    pages = {
        page.route: Measured(page, running.loads.answers(page.name), running.events.of_page(page.name).copy())
        for page in sorted(status.pages, key=lambda page: page.revision)  # of two with one route, that which is live
    }
    pids = {"control": os.getpid()} | {proxy.name: proxy.pid for proxy in status.proxies}
    used = {name: usage(pid) for name, pid in pids.items()}
    return Reading(
        status,
        dict(sorted(pages.items())),
        running.loads.answers(""),
        running.loads.connections,
        running.events.proxy_deaths,
        "config" in running.events.problems,
        {name: known for name, known in used.items() if known is not None},
    )
