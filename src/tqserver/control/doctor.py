"""What the machine has, and what it lacks: one finding for each thing that a server here depends on."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from tqserver.build.files import is_ignored
from tqserver.build.registry import RUNTIMES
from tqserver.control.check import NOTE, OK, PROBLEM, certificate, toolchain
from tqserver.control.discovery import Discovery, discover
from tqserver.host.cgroup import ROOT, delegation, is_in_force, membership_of
from tqserver.host.rundir import NAME
from tqserver.host.sockets import listen
from tqserver.model.config import Config
from tqserver.model.errors import HostError
from tqserver.model.status import Finding, Findings, Status

OLDEST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 1024**3
LEAST_OPEN_FILES = 1024
FILES_PER_WORKER = 8  # in control: pipes, sockets, a log file
FEWEST_PORTS = 10
_INOTIFY = Path("/proc/sys/fs/inotify")
_DELEGATE = "for the kernel to enforce them - systemd: Delegate=yes; containers: a cgroup of their own, writable"


def examine(project: Path, config: Config, running: Status | None) -> Findings:
    """Return what there is to say, with the status of the server if one runs."""
    try:
        found = discover(project / config.pages.directory)
    except HostError as error:
        found = Discovery()
        pages = [Finding(PROBLEM, "pages", error.message, error.remedy)]
    else:
        pages = [Finding(OK, "pages", f"{len(found.pages)} in {config.pages.directory}/")]
    needed = {page.runtime for page in found.pages.values()}
    return Findings(
        [
            _python(),
            *(toolchain(name, is_needed=name in needed) for name in sorted(RUNTIMES)),
            *pages,
            *certificate(project, config),
            _watches(project / config.pages.directory),
            _watcher(running),
            _address(config, running),
            _ports(config),
            _disk(project, config),
            _memory_limits(running),
            _open_files(len(found.pages)),
            _server(running),
        ]
    )


def _python() -> Finding:
    version = sys.version.split()[0]
    wanted = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        return Finding(PROBLEM, "python", version, f"install Python {wanted} or newer")
    return Finding(OK, "python", f"{version}, {sys.executable}")


def _watches(pages: Path) -> Finding:
    directories = sum(1 for _ in _directories(pages))
    try:
        limit = int((_INOTIFY / "max_user_watches").read_text())
        instances = int((_INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return Finding(NOTE, "inotify", "this system has none", "changes are seen by polling, which is slower")
    text = f"{directories} directories to watch, {limit} allowed, {instances} instances"
    if directories > limit // 2:  # the limit is the user's, so that editors take their share of it
        return Finding(PROBLEM, "inotify", text, f"sysctl fs.inotify.max_user_watches={max(524288, directories * 4)}")
    if instances < 16:
        return Finding(PROBLEM, "inotify", text, "sysctl fs.inotify.max_user_instances=1024")
    return Finding(OK, "inotify", text)


def _directories(top: Path) -> Iterator[str]:
    for directory, names, _ in os.walk(top):
        names[:] = [name for name in names if not is_ignored(name)]
        yield directory


def _watcher(running: Status | None) -> Finding:
    if running is None:
        return Finding(OK, "watcher", "not asked: no server runs")
    remedy = "docs/watching.md says what helps"
    if running.server.watcher == "polling":
        return Finding(NOTE, "watcher", f"it polls: {running.server.polling_reason}", remedy)
    missed = running.server.missed_changes
    if missed:
        return Finding(NOTE, "watcher", f"inotify did not tell of {missed} changes", remedy)
    return Finding(OK, "watcher", running.server.watcher)


def _address(config: Config, running: Status | None) -> Finding:
    host, port = config.server.host, config.server.port
    if running is not None:
        return Finding(OK, "server.port", f"the server that runs has {running.server.url}")
    try:
        listen(host, port).close()
    except HostError as error:
        return Finding(PROBLEM, "server.port", error.message, error.remedy)
    return Finding(OK, "server.port", f"{port} is free on {host}")


def _ports(config: Config) -> Finding:
    first, last = config.workers.port_range_start, config.workers.port_range_end
    free = sum(_is_free(port) for port in range(first, last + 1))
    text = f"{free} of {last - first + 1} are free between {first} and {last}"
    if free < min(FEWEST_PORTS, last - first + 1):
        return Finding(PROBLEM, "ports", text, "set workers.port_range_start and port_range_end to a free range")
    return Finding(OK, "ports", text)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _disk(project: Path, config: Config) -> Finding:
    place = _existing(project / (config.workers.temp_dir or NAME))
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free for artifacts and logs"
    for needed in (
        _existing(project / NAME),
        place,
    ):  # the lock and the sockets are in the project, whatever temp_dir is
        if not os.access(needed, os.W_OK):
            return Finding(
                PROBLEM, "disk", f"{needed} cannot be written", "make it writable for the user that runs tqserver"
            )
    if free < LEAST_DISK_BYTES:
        return Finding(PROBLEM, "disk", text, f"free some, or set workers.temp_dir to another disk than {place}")
    return Finding(OK, "disk", text)


def _existing(place: Path) -> Path:
    while not place.exists():
        place = place.parent
    return place


def _memory_limits(running: Status | None) -> Finding:
    """Who holds workers to them: asked of the server that runs, else of one that would be started here."""
    try:
        found = delegation(ROOT, membership_of(running.server.pid if running is not None else "self"))
    except OSError as error:  # it has just ended, or is somebody else's
        return Finding(NOTE, "memory limits", f"not to be seen: {error.strerror}", "ask as the server's user")
    if found.ours is None:
        return Finding(NOTE, "memory limits", f"watched once a second: {found.reason}", _DELEGATE)
    if running is not None and not is_in_force(found):
        return Finding(NOTE, "memory limits", f"watched once a second: others run in {found.ours}", _DELEGATE)
    return Finding(OK, "memory limits", f"by the kernel, below {found.ours}")


def _open_files(pages: int) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(LEAST_OPEN_FILES, pages * FILES_PER_WORKER)
    text = f"{soft} allowed, {hard} at most"
    if soft < wanted:
        return Finding(PROBLEM, "open files", text, f"ulimit -n {wanted}, or LimitNOFILE={wanted} in the unit file")
    return Finding(OK, "open files", text)


def _server(running: Status | None) -> Finding:
    if running is None:
        return Finding(OK, "server", "none runs in this project")
    broken = sum(page.failure is not None for page in running.pages)
    text = f"pid {running.server.pid} at {running.server.url}"
    if broken:
        pages = "1 page has" if broken == 1 else f"{broken} pages have"
        return Finding(NOTE, "server", f"{text}, {pages} an error", "tqserver status says which")
    return Finding(OK, "server", text)
