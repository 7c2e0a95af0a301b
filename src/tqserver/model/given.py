"""What the file and the environment give: values by key, each with its place, and all that is wrong.

YAML is composed into nodes, never loaded into objects: a node still knows its line, how it was written, and
that its key came twice. Nodes are walked along the declarations of ``config.py``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tqserver.model.config import Config, Setting, WorkerSettings, describe, section_of
from tqserver.model.errors import ConfigError, Location
from tqserver.model.kinds import UNTYPED, Kind, ListOf, MappingOf, Scalar, Wrong

PREFIX = "TQSERVER_"
SEPARATOR = "__"
Key = tuple[str, ...]  # ("workers", "paths", "/api", "max_requests")
Members = Mapping[str, dataclasses.Field[Any]]  # a section's members, by every spelling
PATHS: Key = ("workers", "paths")
_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Given:
    """``values`` and ``places`` have one key for each setting; a section and a path have a place only."""

    values: dict[Key, Any] = field(default_factory=dict)
    places: dict[Key, Location] = field(default_factory=dict)
    wrong: set[Key] = field(default_factory=set)
    problems: list[ConfigError] = field(default_factory=list)

    def problem(self, place: Location, message: str, remedy: str = "") -> None:
        """Take note of a mistake."""
        self.problems.append(ConfigError(message, remedy=remedy, location=place))

    def read(self, key: Key, kind: Kind, scalar: Scalar, place: Location) -> Any:
        """Return the value of a scalar, or None after taking note of what is wrong with it."""
        try:
            return kind.read(scalar)
        except Wrong as wrong:
            self.wrong.add(key)
            message = f"{dotted(key)}: expected {wrong.expected}, got {scalar}"
            self.problem(place, message, wrong.remedy)
            return None


def dotted(key: Key) -> str:
    """Return a key as it is shown: ``workers.paths."/api".max_requests``."""
    return ".".join(f'"{part}"' if part.startswith("/") else part for part in key)


def members_of(section: type[Any]) -> Members:
    """Return a section's members by every spelling of their names."""
    members = {}
    for member in dataclasses.fields(section):
        known: Setting | None = member.metadata.get("setting")
        for spelling in (member.name, *(known.aliases if known else ())):
            members[spelling] = member
    return members


# --- the file ---------------------------------------------------------------------------------------------


def read_file(text: str, file: str, given: Given) -> None:
    """Add what a YAML text gives; ``file`` is its name in messages."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
        given.problem(place, f"not YAML: {error.problem}", f"{error.context}" if error.context else "")
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text, error.position)
        given.problem(Location(file, line, column), f"not YAML: {error.reason}", "remove the character")
    else:
        if root is not None:
            _FileReader(file, given).section(root, Config, ())


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


class _FileReader:
    """Walks the nodes of one file."""

    def __init__(self, file: str, given: Given) -> None:
        self._file = file
        self._given = given

    def section(self, node: yaml.Node, section: type[Any], key: Key) -> None:
        """Read the settings of a section, and the sections within."""
        members = members_of(section)
        seen: dict[str, tuple[str, Location]] = {}
        for spelling, place, value, is_merged in self._entries(node, key):
            member = members.get(spelling)
            if member is None:
                self._given.problem(
                    place, f"unknown key {dotted((*key, spelling))}", _remedy(spelling, members, key)
                )
            elif member.name not in seen:
                seen[member.name] = (spelling, place)
                self._member(value, member, (*key, member.name))
            elif not is_merged:
                self._repeated((*key, spelling), place, *seen[member.name])

    def _repeated(self, key: Key, place: Location, spelling: str, first: Location) -> None:
        if key[-1] == spelling:
            message = f"{dotted(key)} is given twice, first on line {first.line}"
        else:
            message = f"{dotted(key)} is another spelling of {spelling}, which is given on line {first.line}"
        self._given.problem(place, message, "keep one of the two")

    def _member(self, node: yaml.Node, member: dataclasses.Field[Any], key: Key) -> None:
        self._given.places[key] = self._place(node)
        section = section_of(member)
        if section is not None:
            self.section(node, section, key)
        elif key == PATHS:
            self._paths(node, key)
        else:
            known: Setting = member.metadata["setting"]
            value = self._value(node, known.kind, key)
            if key not in self._given.wrong:
                self._given.values[key] = value

    def _paths(self, node: yaml.Node, key: Key) -> None:
        seen: dict[str, tuple[str, Location]] = {}
        for route, place, value, is_merged in self._entries(node, key):
            prefix = route.rstrip("/") or "/"
            if not route.startswith("/"):
                self._given.problem(
                    place, f'{dotted(key)}: "{route}" does not begin with /', f'write "/{route}"'
                )
            elif prefix not in seen:
                seen[prefix] = (route, place)
                self._given.places[(*key, prefix)] = place
                self.section(value, WorkerSettings, (*key, prefix))
            elif not is_merged:
                self._repeated((*key, route), place, *seen[prefix])

    def _value(self, node: yaml.Node, kind: Kind | ListOf | MappingOf, key: Key) -> Any:
        if isinstance(kind, ListOf):
            items = self._items(node, kind, key)
            return tuple(self._scalar(item, kind.item, key) for item in items)
        if isinstance(kind, MappingOf):
            return {
                name: self._scalar(value, kind.item, (*key, name))
                for name, _, value, _ in self._entries(node, key)
            }
        return self._scalar(node, kind, key)

    def _scalar(self, node: yaml.Node, kind: Kind, key: Key) -> Any:
        if isinstance(node, yaml.ScalarNode):
            scalar = Scalar(node.tag.removeprefix(_TAG), node.value)
            return self._given.read(key, kind, scalar, self._place(node))
        self._unexpected(node, "a single value", key)
        return None

    def _items(self, node: yaml.Node, kind: ListOf, key: Key) -> Iterable[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return node.value  # type: ignore[no-any-return]
        if not _is_null(node):
            self._unexpected(node, f"a {kind.name}", key)
        return ()

    def _entries(self, node: yaml.Node, key: Key) -> Iterator[tuple[str, Location, yaml.Node, bool]]:
        """Yield (key, its place, value, whether it came by a merge) of a mapping; none if it is empty."""
        if _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._unexpected(node, "a mapping of keys to values", key)
            return
        merged: list[yaml.Node] = []
        for name, value in node.value:
            if name.tag == _TAG + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif isinstance(name, yaml.ScalarNode):
                yield str(name.value), self._place(name), value, False
            else:
                self._unexpected(name, "a key", key)
        for base in merged:  # what is merged yields to what is written, the later to the earlier
            if base is not node:
                for name, place, value, _ in self._entries(base, key):
                    yield name, place, value, True

    def _unexpected(self, node: yaml.Node, expected: str, key: Key) -> None:
        self._given.wrong.add(key)
        where = f"{dotted(key)}: " if key else ""
        self._given.problem(self._place(node), f"{where}expected {expected}, got {_shown(node)}")

    def _place(self, node: yaml.Node) -> Location:
        return Location(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(Scalar(node.tag.removeprefix(_TAG), node.value))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _remedy(spelling: str, members: Members, key: Key) -> str:
    """Say what an unknown key may have been meant to be: one of another section, or one like it here."""
    elsewhere = [known.key for known in describe() if spelling in (_last(known.key), *known.aliases)]
    if not key and spelling == PATHS[-1]:
        elsewhere = [dotted(PATHS)]
    if elsewhere:
        return f"it belongs in {' or '.join(name.rpartition('.')[0] for name in elsewhere)}"
    near = difflib.get_close_matches(spelling, members, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(dict.fromkeys(member.name for member in members.values()))}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]


# --- the environment --------------------------------------------------------------------------------------


def read_environment(environ: Mapping[str, str], given: Given) -> None:
    """Add what TQSERVER_* variables give: TQSERVER_SERVER__PORT is server.port."""
    settings = _settings(Config, ())
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        place = Location(variable)
        found = settings.get(variable)
        if found is None:
            near = difflib.get_close_matches(variable, settings, n=1)
            given.problem(
                place,
                "no setting has this name",
                f"did you mean {near[0]}?" if near else "docs/configuration.md lists them",
            )
            continue
        key, kind = found
        if isinstance(kind, MappingOf):
            given.problem(place, f"{dotted(key)} is a mapping, which a variable cannot give", "use the file")
        elif key in given.values:
            given.wrong.add(key)
            other = given.places[key]
            given.problem(place, f"{dotted(key)} is given by {other} too", "keep one of the two")
        else:
            given.places[key] = place
            value = _from_text(key, kind, environ[variable], place, given)
            if key not in given.wrong:
                given.values[key] = value


def _from_text(key: Key, kind: Kind | ListOf, text: str, place: Location, given: Given) -> Any:
    if not isinstance(kind, ListOf):
        return given.read(key, kind, Scalar(UNTYPED, text), place)
    items = [item.strip() for item in text.split(",") if item.strip()]
    return tuple(given.read(key, kind.item, Scalar(UNTYPED, item), place) for item in items)


def _settings(section: type[Any], key: Key) -> dict[str, tuple[Key, Kind | ListOf | MappingOf]]:
    """Return every setting that a variable may name, by the variable."""
    found: dict[str, tuple[Key, Kind | ListOf | MappingOf]] = {}
    for spelling, member in members_of(section).items():
        within = section_of(member)
        if within is not None:
            found |= _settings(within, (*key, member.name))
        elif "setting" in member.metadata:
            variable = PREFIX + SEPARATOR.join((*key, spelling)).upper()
            found[variable] = ((*key, member.name), member.metadata["setting"].kind)
    return found
