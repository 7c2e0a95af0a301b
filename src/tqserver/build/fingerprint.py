"""What can change a result, as one digest: the name of the artifact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tqserver.build.runtimes.base import Inputs, Project
from tqserver.model.pages import Page

FORMAT = "1"  # change it when artifacts of earlier versions must not be reused
DIGEST_BYTES = 16


def digest_of(page: Page, project: Project, inputs: Inputs, contents: Mapping[Path, bytes]) -> str:
    """Return the name of the artifact that these inputs make, as 32 hexadecimal digits."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add(*parts: str | bytes) -> None:
        for part in parts:
            text = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            hashed.update(len(text).to_bytes(8, "big") + text)  # lengths keep neighbours apart

    add(FORMAT, page.runtime, page.name, page.entry, project.mode)
    for name, fact in sorted(inputs.facts.items()):
        add(name, fact)
    for file, content in sorted(contents.items()):
        add(os.path.relpath(file, project.root), "x" if os.access(file, os.X_OK) else "-", content)
    return hashed.hexdigest()
