"""Which languages there are, and which one a directory is written in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from tqserver.build.runtimes.base import Runtime
from tqserver.build.runtimes.go import GoRuntime
from tqserver.build.runtimes.python import PythonRuntime
from tqserver.model.errors import Location, PageError

RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in (PythonRuntime(), GoRuntime())}
PAGE_FILE = "page.yaml"


def by_name(name: str) -> Runtime:
    """Return the runtime of this name."""
    return RUNTIMES[name]


def detect(directory: Path) -> tuple[Runtime, str] | None:
    """Return the runtime and entry file of a directory, None if it is no page.

    Raises :class:`PageError` if two languages claim it and ``page.yaml`` does not decide.
    """
    with os.scandir(directory) as scanned:
        entries = list(scanned)
    for found in entries:
        _refuse_unreadable(found)
    files = frozenset(found.name for found in entries if found.is_file())
    claims = [(runtime, entry) for runtime in RUNTIMES.values() if (entry := runtime.detect(directory, files))]
    if PAGE_FILE in files:
        chosen = _chosen(directory / PAGE_FILE)
        claims = [(runtime, entry) for runtime, entry in claims if runtime.name == chosen]
        if not claims:
            raise PageError(
                f"it has no entry file for the runtime {chosen}",
                remedy="add one, or mend runtime:",
                location=Location(str(directory / PAGE_FILE)),
            )
    if len(claims) > 1:
        names = " and ".join(f"{entry} ({runtime.name})" for runtime, entry in claims)
        raise PageError(
            f"two languages in one directory: {names}",
            remedy=f"remove one, or write runtime: {claims[0][0].name} into {PAGE_FILE}",
            location=Location(str(directory)),
        )
    return claims[0] if claims else None


def _refuse_unreadable(entry: os.DirEntry[str]) -> None:
    """An entry file that is a pipe or leads nowhere would make its page vanish without a word."""
    if entry.name != "main.py" and not entry.name.endswith(".go"):
        return
    try:
        usable = entry.is_file() or entry.is_dir()
    except OSError:
        usable = False
    if not usable:
        kind = "a symbolic link that leads nowhere" if entry.is_symlink() else "not a regular file"
        raise PageError(f"{entry.name} is {kind}", remedy="mend or remove it", location=Location(entry.path))


def _chosen(file: Path) -> str:
    """Return the ``runtime:`` of a page.yaml, the one key that it may have so far."""
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise PageError(f"cannot be read: {error}", location=Location(str(file))) from error
    chosen = ""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        place = Location(str(file), key.start_mark.line + 1, key.start_mark.column + 1)
        if key.value != "runtime":
            raise PageError(f"unknown key {key.value}", remedy="known here: runtime", location=place)
        if value.value not in RUNTIMES:
            raise PageError(f"unknown runtime {value.value}", remedy=f"known: {', '.join(RUNTIMES)}", location=place)
        chosen = str(value.value)
    if not chosen:
        raise PageError("it names no runtime", remedy="write runtime: python", location=Location(str(file)))
    return chosen
