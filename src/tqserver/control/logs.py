"""The end of what a page's workers have printed, from the file that the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

from tqserver.host.log import page_log
from tqserver.model.config import Config
from tqserver.model.pages import route_of
from tqserver.model.status import PageLog

_BLOCK_BYTES = 64 * 1024


def end_of(project: Path, config: Config, page: str, lines: int) -> PageLog:
    """Return the last ``lines`` of a page's output of today (or whatever period the name of its file stands for)."""
    route = route_of(page)
    file = page_log(project, config.workers.for_route(route).log_file, page)
    if file is None:
        return PageLog(page, route, "", [])
    path = file.path()
    return PageLog(page, route, os.path.relpath(path, project), last_lines(path, lines))


def last_lines(path: str, count: int) -> list[str]:
    """Return the last lines of a file, without reading what is before them; none if there is no file."""
    try:
        with open(path, "rb") as file:
            position, ends = file.seek(0, os.SEEK_END), 0
            blocks: list[bytes] = []  # from the end on
            while position > 0 and ends <= count:
                step = min(position, _BLOCK_BYTES)
                position -= step
                file.seek(position)
                blocks.append(file.read(step))
                ends += blocks[-1].count(b"\n")
    except FileNotFoundError:
        return []
    text = b"".join(reversed(blocks))
    lines = text.decode(errors="replace").removesuffix("\n").split("\n")
    return lines[-count:] if text and count else []
