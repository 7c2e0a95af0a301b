"""``page.yaml``: what a page says of itself. So far one key, ``runtime``.

Read by nodes, not by values, so that every complaint has its line.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from tqserver.build.files import unreadable
from tqserver.host import reading
from tqserver.model.errors import Location, PageError
from tqserver.model.yaml_text import LARGEST_BYTES, NotYaml, compose, place_of

KEY = "runtime"


def runtime_in(file: Path, known: Collection[str]) -> str:
    """Return the ``runtime:`` of a page.yaml. Raises :class:`PageError` with the line of what is wrong."""
    runtime = ""
    for key, value in _pairs(file):
        place = place_of(str(file), key.start_mark)
        if key.value != KEY:
            raise PageError(f"unknown key {_shown(key)}", remedy=f"known here: {KEY}", location=place)
        if runtime:
            raise PageError(f"{KEY} is there twice", remedy="remove one", location=place)
        if not isinstance(value, yaml.ScalarNode) or value.value not in known:
            raise PageError(f"unknown runtime {_shown(value)}", remedy=f"known: {', '.join(known)}", location=place)
        runtime = value.value
    if not runtime:
        raise PageError("it names no runtime", remedy=f"write {KEY}: python", location=Location(str(file)))
    return runtime


def _pairs(file: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    try:
        root = compose(reading.read(file, LARGEST_BYTES).decode(), str(file))
    except NotYaml as error:
        raise PageError(error.message, remedy=error.remedy, location=error.location) from error
    except OSError as error:
        raise unreadable(file, "file", error) from error
    except UnicodeDecodeError as error:
        raise PageError(
            f"not UTF-8: {error.reason}", remedy="save it as UTF-8", location=Location(str(file))
        ) from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise PageError(
            "expected keys with values",
            remedy=f"write {KEY}: python",
            location=place_of(str(file), root.start_mark),
        )
    return list(root.value)


def _shown(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else f"of type {node.tag.rpartition(':')[2]}"
