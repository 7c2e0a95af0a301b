"""The parts of a running server that the admin API reads and nudges.

The supervisor makes this anew for each request, so that nothing here is older than the question.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqserver.control.agent import NodeAgent
from tqserver.control.events import Events
from tqserver.control.journal import Journal
from tqserver.control.load import Loads
from tqserver.control.output import OutputHub
from tqserver.control.proxies import ProxyPool
from tqserver.control.publisher import Publisher
from tqserver.control.site import Site
from tqserver.control.watcher import Watcher
from tqserver.model.config import Config


@dataclass(frozen=True, slots=True)
class Running:
    """A server at this moment."""

    project: Path
    config: Config
    config_file: Path  # as it was given
    url: str
    started_at: float  # clock.wall
    site: Site
    agent: NodeAgent
    publisher: Publisher
    proxies: ProxyPool
    watcher: Watcher
    events: Events
    output: OutputHub
    loads: Loads
    journal: Journal
