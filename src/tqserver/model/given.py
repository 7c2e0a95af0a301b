"""What the file and the environment give: values by key, each with its place, and all that is wrong.

YAML is composed into nodes, never loaded into objects: a node still knows its line, how it was written, and
that its key came twice. Nodes are walked along the declarations of ``config.py``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tqserver.model.config import Config, Setting, WorkerSettings, describe, section_of
from tqserver.model.errors import ConfigError, Location
from tqserver.model.kinds import UNTYPED, Kind, ListOf, MappingOf, Scalar, Wrong
from tqserver.model.yaml_text import NotYaml, compose, place_of

PREFIX = "TQSERVER_"
SEPARATOR = "__"
Key = tuple[str, ...]  # ("workers", "paths", "/api", "max_requests")
Members = Mapping[str, dataclasses.Field[Any]]  # a section's members, by every spelling
PATHS: Key = ("workers", "paths")
_MOST_MERGED = 32  # mappings into one: a chain without end would be walked for each of its links
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")}


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
            message = f"{dotted(key)}: expected {wrong.expected}, got {wrong.got or scalar}"
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
        root = compose(text, file)
    except NotYaml as error:
        given.problem(error.location, error.message, error.remedy)
    else:
        if root is not None:
            _FileReader(file, given).section(root, Config, ())


class _FileReader:
    """Walks the nodes of one file."""

    def __init__(self, file: str, given: Given) -> None:
        self._file = file
        self._given = given

    def section(self, node: yaml.Node, section: type[Any], key: Key) -> None:
        """Read the settings of a section, and the sections within."""
        members = members_of(section)

        def name_of(spelling: str) -> str:
            return members[spelling].name if spelling in members else spelling

        for name, place, value in self._once_each(node, key, name_of):
            member = members.get(name)
            if member is None:
                self._given.problem(place, f"unknown key {dotted((*key, name))}", _remedy(name, members, key))
            else:
                self._member(value, member, (*key, name))

    def _member(self, node: yaml.Node, member: dataclasses.Field[Any], key: Key) -> None:
        section = section_of(member)
        if section is not None and _is_null(node):
            return  # a heading with nothing, or only comments, below it
        self._given.places[key] = self._place(node)
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
        for route, place, value in self._once_each(node, key, lambda route: route.rstrip("/") or route[:1]):
            if not route.startswith("/"):
                self._given.problem(place, f'{dotted(key)}: "{route}" does not begin with /', f'write "/{route}"')
            else:
                self._given.places[(*key, route)] = place
                self.section(value, WorkerSettings, (*key, route))

    def _value(self, node: yaml.Node, kind: Kind | ListOf | MappingOf, key: Key) -> Any:
        if isinstance(kind, ListOf):
            return tuple(self._scalar(item, kind.item, key) for item in self._items(node, kind, key))
        if isinstance(kind, MappingOf):
            return self._mapping(node, kind, key)
        return self._scalar(node, kind, key)

    def _mapping(self, node: yaml.Node, kind: MappingOf, key: Key) -> dict[str, Any]:
        if isinstance(node, yaml.ScalarNode) and not _is_null(node):
            self._wrong(node, key, f"{dotted(key)}: expected a mapping of keys to values, got a single value")
            return {}
        read = {}
        for name, place, value in self._once_each(node, key, str):
            self._given.read((*key, name), kind.names, Scalar("str", name), place)
            read[name] = self._scalar(value, kind.item, (*key, name))
        return read

    def _scalar(self, node: yaml.Node, kind: Kind, key: Key) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self._unexpected(node, "a single value", key)
        elif node.tag not in _TAGS:
            self._wrong(
                node, key, f"{dotted(key)}: a tag (!) has no meaning here", "remove it, or put the text in quotes"
            )
        else:
            scalar = Scalar(node.tag.removeprefix(_TAG), node.value)
            return self._given.read(key, kind, scalar, self._place(node))
        return None

    def _items(self, node: yaml.Node, kind: ListOf, key: Key) -> Iterable[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return node.value  # type: ignore[no-any-return]
        if not _is_null(node):
            self._unexpected(node, f"a {kind.name}", key)
        return ()

    def _once_each(
        self, node: yaml.Node, key: Key, name_of: Callable[[str], str]
    ) -> Iterator[tuple[str, Location, yaml.Node]]:
        """Yield (name, place, value) of a mapping; a name that comes again, in any spelling, is a mistake."""
        seen: dict[str, tuple[str, Location]] = {}
        for spelling, place, value, is_merged in self._entries(node, key):
            name = name_of(spelling)
            if name not in seen:
                seen[name] = (spelling, place)
                yield name, place, value
            elif not is_merged:
                first, at = seen[name]
                again = "given twice, first" if first == spelling else f"{first} in another spelling, given"
                self._given.problem(
                    place, f"{dotted((*key, spelling))} is {again} on line {at.line}", "keep one of the two"
                )

    def _entries(self, node: yaml.Node, key: Key) -> Iterator[tuple[str, Location, yaml.Node, bool]]:
        """Yield (key, its place, value, whether it came by a merge) of a mapping, none for null.

        What is merged (``<<: *anchor``) comes after what is written here, and so yields to it. What is merged again,
        be it into itself, adds nothing.
        """
        pending, seen = [node], set[yaml.Node]()
        while pending:
            base = pending.pop()
            if base in seen:
                continue
            seen.add(base)
            if len(seen) > _MOST_MERGED:
                self._given.problem(
                    self._place(node), f"more than {_MOST_MERGED} mappings are merged into one", "merge fewer"
                )
                return
            merged: list[yaml.Node] = []
            for name, value in self._pairs(base, key):
                if name.tag == _TAG + "merge":
                    merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                elif isinstance(name, yaml.ScalarNode):
                    yield str(name.value), self._place(name), value, base is not node
                else:
                    self._unexpected(name, "a key", key)
            pending += reversed(merged)

    def _pairs(self, node: yaml.Node, key: Key) -> Iterable[tuple[yaml.Node, yaml.Node]]:
        if isinstance(node, yaml.MappingNode):
            return node.value  # type: ignore[no-any-return]
        if not _is_null(node):
            self._unexpected(node, "a mapping of keys to values", key)
        return ()

    def _unexpected(self, node: yaml.Node, expected: str, key: Key) -> None:
        where = f"{dotted(key)}: " if key else ""
        self._wrong(node, key, f"{where}expected {expected}, got {_shown(node)}")

    def _wrong(self, node: yaml.Node, key: Key, message: str, remedy: str = "") -> None:
        self._given.wrong.add(key)
        self._given.problem(self._place(node), message, remedy)

    def _place(self, node: yaml.Node) -> Location:
        return place_of(self._file, node.start_mark)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(Scalar(node.tag.removeprefix(_TAG), node.value))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _remedy(spelling: str, members: Members, key: Key) -> str:
    """Say what an unknown key may have been meant to be: one of another section, or one like it here."""
    homes = [home for home in _homes(spelling) if home != dotted(key)]
    if homes:
        return f"it belongs {' or '.join(f'in {home}' if home else 'at the top' for home in homes)}"
    near = difflib.get_close_matches(spelling, members, n=1)
    if near:
        return f"did you mean {members[near[0]].name}?"
    return f"known here: {', '.join(dict.fromkeys(member.name for member in members.values()))}"


def _homes(spelling: str) -> list[str]:
    """Return the sections, dotted, that have a member of this name."""
    homes = [dotted(PATHS[:-1])] if spelling == PATHS[-1] else []
    for known in describe():
        *parents, name = known.key.split(".")
        if spelling in (name, *known.aliases):
            homes.append(".".join(parents))
        elif spelling in parents:
            homes.append(".".join(parents[: parents.index(spelling)]))
    return list(dict.fromkeys(homes))


# --- the environment --------------------------------------------------------------------------------------


def read_environment(environ: Mapping[str, str], given: Given) -> None:
    """Add what TQSERVER_* variables give: TQSERVER_SERVER__PORT is server.port."""
    settings = _settings(Config, ())
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        place = Location(variable)
        found = settings.get(variable)
        if found is None:
            given.problem(place, "no setting has this name", _variable_meant(variable, settings))
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


def _variable_meant(variable: str, settings: Iterable[str]) -> str:
    if variable.startswith(PREFIX + SEPARATOR.join(PATHS).upper()):
        return "settings of a path are given in the file"
    last = variable.removeprefix(PREFIX).rpartition(SEPARATOR)[2]
    near = [name for name in settings if name.endswith(SEPARATOR + last)]
    near = near or difflib.get_close_matches(variable, settings, n=1, cutoff=0.8)
    return f"did you mean {' or '.join(near)}?" if near else "docs/configuration.md lists them"


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
