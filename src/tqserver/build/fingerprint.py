"""What can change a result, as one digest: the name of the artifact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqserver.build.contents import DIGEST_BYTES, Content
from tqserver.build.runtimes.base import Inputs, Project
from tqserver.model.pages import Page

FORMAT = "2"  # change it when artifacts of earlier versions must not be reused


def digest_of(page: Page, project: Project, inputs: Inputs, contents: Mapping[Path, Content]) -> str:
    """Return the name of the artifact that these inputs make, as 32 hexadecimal digits."""
    facts = (text for fact in sorted(inputs.facts.items()) for text in fact)
    described = (FORMAT, page.runtime, page.name, page.entry, project.mode)
    return _digest(*described, *facts, *_files(contents, project.root))


def own_digest(page: Page, contents: Mapping[Path, Content]) -> str:
    """Return what tells the page's own files, wherever they are built: no toolchain, no shared code, no mode."""
    top = Path(page.directory)
    return _digest(*_files({file: content for file, content in contents.items() if file.is_relative_to(top)}, top))


def _files(contents: Mapping[Path, Content], top: Path) -> Iterator[str | bytes]:
    for file, content in sorted(contents.items()):
        yield from (os.path.relpath(file, top), "x" if content.executable else "-", content.digest)


def _digest(*parts: str | bytes) -> str:
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        text = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        hashed.update(len(text).to_bytes(8, "big") + text)  # lengths keep neighbours apart
    return hashed.hexdigest()
