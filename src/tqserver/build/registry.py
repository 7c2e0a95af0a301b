"""Which languages there are, and which one a directory is written in.

A language is one file in ``runtimes/`` that ends by naming its adapter, ``RUNTIME``: there is no list to add it to.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path

from tqserver.build import runtimes
from tqserver.build.page_file import runtime_in
from tqserver.build.runtimes.base import Runtime
from tqserver.model.errors import Location, PageError

PAGE_FILE = "page.yaml"


def _found() -> Mapping[str, Runtime]:
    modules = [
        importlib.import_module(f"{runtimes.__name__}.{m.name}") for m in pkgutil.iter_modules(runtimes.__path__)
    ]
    adapters: list[Runtime] = [module.RUNTIME for module in modules if hasattr(module, "RUNTIME")]
    return {adapter.name: adapter for adapter in adapters}


RUNTIMES: Mapping[str, Runtime] = _found()


def by_name(name: str) -> Runtime:
    """Return the runtime of this name."""
    return RUNTIMES[name]


def detect(directory: Path) -> tuple[Runtime, str] | None:
    """Return the runtime and entry file of a directory, None if it is no page.

    Raises :class:`PageError` if two languages claim it and ``page.yaml`` does not decide.
    """
    with os.scandir(directory) as entries:
        files = frozenset(entry.name for entry in entries if not _is_directory(entry))
    claims = [(runtime, entry) for runtime in RUNTIMES.values() if (entry := runtime.detect(directory, files))]
    if PAGE_FILE in files:
        chosen = runtime_in(directory / PAGE_FILE, RUNTIMES)
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


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """A link that leads nowhere or in a circle counts as a file, so that somebody says so."""
    try:
        return entry.is_dir()
    except OSError:
        return False
