"""YAML text to nodes: the one door, for texts that users write while the server runs.

``yaml.compose`` calls itself, in C, for each level of nesting: some tens of thousands of brackets overflow the stack
and end the process. So the events, which the parser makes without calling itself, are looked at before.
"""

from __future__ import annotations

from typing import Protocol

import yaml

from tqserver.model.errors import Location

LARGEST_BYTES = 2**20  # of a text: whoever reads the file holds to it
DEEPEST = 100  # levels; a configuration has five


class Mark(Protocol):
    """A place as PyYAML has it, counted from 0."""

    line: int
    column: int


class NotYaml(Exception):
    """The text is none, or none that is taken: ``message``, ``remedy``, and ``location`` with line and column."""

    def __init__(self, message: str, location: Location, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.remedy = remedy


def compose(text: str, file: str) -> yaml.Node | None:
    """Return the root of a text, None if it is empty; ``file`` is its name in messages. Raises :class:`NotYaml`."""
    try:
        _check_depth(text, file)
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        place = place_of(file, error.problem_mark) if error.problem_mark else Location(file)
        raise NotYaml(f"not YAML: {what}", place) from error
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text, error.position)
        raise NotYaml(f"not YAML: {error.reason}", Location(file, line, column), "remove the character") from error
    return root


def place_of(file: str, mark: Mark) -> Location:
    """Return a place in a file as it is shown, counted from 1."""
    return Location(file, mark.line + 1, mark.column + 1)


def _check_depth(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                assert event.start_mark is not None
                place = place_of(file, event.start_mark)
                raise NotYaml(f"nested more than {DEEPEST} levels deep", place, "write it flatter")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text.encode()[:position].decode()  # libyaml counts bytes here, characters everywhere else
    return before.count("\n") + 1, len(before) - before.rfind("\n")
