"""``page.yaml``: what a page says of itself. So far one key, ``runtime``.

Read by nodes, not by values, so that every complaint has its line.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from tqserver.model.errors import Location, PageError

KEY = "runtime"


def runtime_in(file: Path, known: Collection[str]) -> str:
    """Return the ``runtime:`` of a page.yaml. Raises :class:`PageError` with the line of what is wrong."""
    runtime = ""
    for key, value in _pairs(file):
        place = _place(file, key.start_mark)
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
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        place = _place(file, error.problem_mark) if error.problem_mark else Location(str(file))
        raise PageError(f"not valid YAML: {error.problem}", location=place) from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise PageError(f"cannot be read: {error}", location=Location(str(file))) from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise PageError(
            "expected keys with values",
            remedy=f"write {KEY}: python",
            location=_place(file, root.start_mark),
        )
    return list(root.value)


def _place(file: Path, mark: yaml.Mark) -> Location:
    return Location(str(file), mark.line + 1, mark.column + 1)


def _shown(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else f"of type {node.tag.rpartition(':')[2]}"
