"""Text to configuration: strict, with file, line and column.

YAML nodes are walked against the declarations of ``config.py``. Nothing is coerced: a wrong type, an unknown or
repeated key and a value out of range are errors, all of them are reported at once, and none of the file is applied.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import yaml

from tqserver.model.config import NETWORKS, SIZE, Config, WorkerSettings, describe
from tqserver.model.errors import ConfigError, Location

PREFIX = "TQSERVER_"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+)\s*([A-Za-z]*)")
_KINDS = {
    "tag:yaml.org,2002:int": "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:str": "a text",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:map": "a mapping",
    "tag:yaml.org,2002:seq": "a list",
}


class ConfigProblems(ConfigError):
    """All that is wrong with a configuration."""

    def __init__(self, problems: list[ConfigError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load_text(text: str, file: str, environ: Mapping[str, str]) -> Config:
    """Return the configuration in ``text``, with TQSERVER_* variables over it.

    Raises :class:`ConfigProblems`, which lists every mistake with its place.
    """
    reader = _Reader(file)
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
        raise ConfigProblems([ConfigError(f"not valid YAML: {error.problem}", location=place)]) from error
    given = {} if root is None or _is_null(root) else reader.mapping(root, Config, "")
    for path, node, variable in _overrides(environ, reader):
        reader.override(given, path, node, variable)
    config: Config = reader.build(Config, given)
    if not reader.problems:
        reader.cross_check(config)
    if reader.problems:
        raise ConfigProblems(reader.problems)
    return config


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


class _Reader:
    """Walks nodes, collects problems."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._places: dict[str, Location] = {}
        self.problems: list[ConfigError] = []

    def problem(self, node: yaml.Node | None, message: str, remedy: str = "") -> None:
        """Take note of a mistake."""
        where = self._place(node) if node is not None else Location(self._file)
        self.problems.append(ConfigError(message, remedy=remedy, location=where))

    def _place(self, node: yaml.Node) -> Location:
        if not node.start_mark.buffer and node.start_mark.name.startswith(PREFIX):
            return Location(node.start_mark.name)
        return Location(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    # --- the tree -----------------------------------------------------------------------------------------

    def mapping(self, node: yaml.Node, section: type[Any], path: str) -> dict[str, Any]:
        """Return a section's values by name; sub-sections are mappings themselves."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{path or 'the file'} must be a mapping, not {_kind(node)}")
            return {}
        names = _names(section)
        values: dict[str, Any] = {}
        for key, value in node.value:
            spelling = str(key.value)
            name = names.get(spelling)
            dotted = f"{path}.{spelling}" if path else spelling
            if name is None:
                self.problem(key, f"unknown key {dotted}", _nearest(spelling, names, dotted))
            elif name in values:
                self.problem(key, f"{dotted} is given twice", "keep one of them")
            else:
                self._places[f"{path}.{name}".lstrip(".")] = self._place(value)
                values[name] = self._member(value, section, name, dotted)
        return {name: value for name, value in values.items() if value is not _SKIP}

    def _member(self, node: yaml.Node, section: type[Any], name: str, dotted: str) -> Any:
        declared = {f.name: f for f in dataclasses.fields(section)}[name]
        if declared.metadata:
            return self.value(node, declared, _hints(section)[name], dotted)
        if _is_null(node):
            return _SKIP  # "workers:" with nothing below it
        if dotted == "workers.paths":
            return self._paths(node)
        assert declared.default_factory is not dataclasses.MISSING
        return self.mapping(node, type(declared.default_factory()), dotted)

    def _paths(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"workers.paths must be a mapping, not {_kind(node)}")
            return _SKIP
        paths: dict[str, dict[str, Any]] = {}
        for key, value in node.value:
            route = str(key.value)
            if not route.startswith("/"):
                self.problem(key, f"workers.paths: {route!r} is not a path", f'write "/{route}"')
            elif route in paths:
                self.problem(key, f"workers.paths: {route!r} is given twice", "keep one of them")
            else:
                paths[route] = self.mapping(value, WorkerSettings, f'workers.paths."{route}"')
        return paths

    # --- one value ----------------------------------------------------------------------------------------

    def value(self, node: yaml.Node, declared: dataclasses.Field[Any], hint: Any, dotted: str) -> Any:
        """Return one setting's value, or _SKIP after a problem."""
        optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
        kind = next(t for t in typing.get_args(hint) if t is not type(None)) if optional else hint
        if _is_null(node):
            if optional:
                return None
            self.problem(node, f"{dotted} must not be empty", "give it a value or remove the key")
            return _SKIP
        form = declared.metadata["form"]
        if form == NETWORKS:
            return self._networks(node, dotted)
        if typing.get_origin(kind) is Mapping or kind is Mapping:
            return self._texts(node, dotted)
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, f"{dotted} must be a single value, not {_kind(node)}")
            return _SKIP
        if form == SIZE:
            value: Any = self._size(node, dotted)
        elif kind is str:
            value = self._text(node, dotted, optional=optional)
        else:
            value = self._number(node, kind, dotted)
        return value if value is _SKIP or value is None else self._limits(node, declared, value, dotted)

    def _number(self, node: yaml.ScalarNode, kind: type[Any], dotted: str) -> Any:
        allowed = ("int", "float") if kind is float else ("int",)
        if node.tag.rpartition(":")[2] not in allowed:
            expected = "a number" if kind is float else "a whole number"
            self.problem(node, f"{dotted} must be {expected}, not {_kind(node)} ({node.value!r})")
            return _SKIP
        number = yaml.CSafeLoader("").construct_object(node)
        return float(number) if kind is float else int(number)

    def _text(self, node: yaml.ScalarNode, dotted: str, *, optional: bool) -> Any:
        if not node.tag.endswith(":str"):
            self.problem(
                node,
                f"{dotted} must be a text, not {_kind(node)} ({node.value!r})",
                f'put it in quotes: "{node.value}"',
            )
            return _SKIP
        return None if optional and node.value in ("", "~") else str(node.value)

    def _size(self, node: yaml.ScalarNode, dotted: str) -> Any:
        found = _SIZE.fullmatch(str(node.value))
        unit = _UNITS.get(found[2].upper()) if found else None
        if found is None or unit is None:
            self.problem(node, f"{dotted} must be a size, not {node.value!r}", 'write bytes, or e.g. "512MiB"')
            return _SKIP
        return int(found[1]) * unit

    def _texts(self, node: yaml.Node, dotted: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{dotted} must be a mapping, not {_kind(node)}")
            return _SKIP
        texts = {
            str(key.value): self._text(value, f"{dotted}.{key.value}", optional=False) for key, value in node.value
        }
        return {key: text for key, text in texts.items() if text is not _SKIP}

    def _networks(self, node: yaml.Node, dotted: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            self.problem(node, f"{dotted} must be a list, not {_kind(node)}", 'write ["10.0.0.0/8"]')
            return _SKIP
        for item in node.value:
            try:
                ipaddress.ip_network(str(item.value), strict=False)
            except ValueError:
                self.problem(item, f"{dotted}: {item.value!r} is not an address or network")
        return [str(item.value) for item in node.value]

    def _limits(self, node: yaml.Node, declared: dataclasses.Field[Any], value: Any, dotted: str) -> Any:
        low, high = declared.metadata["low"], declared.metadata["high"]
        choices = declared.metadata["choices"]
        if choices and value not in choices:
            self.problem(node, f"{dotted} must be {' or '.join(choices)}, not {value!r}")
            return _SKIP
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
            self.problem(node, f"{dotted} must be {bounds}, not {value:g}")
            return _SKIP
        return value

    # --- the environment ----------------------------------------------------------------------------------

    def override(self, given: dict[str, Any], path: list[str], node: yaml.Node, variable: str) -> None:
        """Put a variable's value over what the file gives."""
        section: type[Any] = Config
        target = given
        for place, part in enumerate(path):
            names = _names(section)
            name = names.get(part)
            if name is None or (place < len(path) - 1) != (not _is_setting(section, name)):
                self.problems.append(
                    ConfigError(
                        f"no setting is called {'.'.join(path)}",
                        remedy=_nearest(part, names, ".".join(path)),
                        location=Location(variable),
                    )
                )
                return
            if place == len(path) - 1:
                value = self._member(node, section, name, ".".join(path))
                if value is not _SKIP:
                    target[name] = value
                return
            target = target.setdefault(name, {})
            section = type(_default_of(section, name))

    # --- the result ---------------------------------------------------------------------------------------

    def build(self, section: type[Any], given: Mapping[str, Any]) -> Any:
        """Return the section with ``given`` over its defaults."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            if _is_setting(section, name):
                values[name] = value
            elif name == "paths":
                default = given.get("default", {})
                values[name] = {route: WorkerSettings(**{**default, **own}) for route, own in value.items()}
            else:
                values[name] = self.build(type(_default_of(section, name)), value)
        return section(**values)

    def cross_check(self, config: Config) -> None:
        """Check what concerns two settings."""
        workers, port = config.workers, config.server.port
        if workers.port_range_start > workers.port_range_end:
            self._at(
                "workers.port_range_end",
                "workers.port_range_start is above workers.port_range_end",
                "exchange them",
            )
        elif workers.port_range_start <= port <= workers.port_range_end:
            self._at("server.port", f"server.port {port} lies within the workers' port range", "move one of them")

    def _at(self, key: str, message: str, remedy: str) -> None:
        place = self._places.get(key, Location(self._file))
        self.problems.append(ConfigError(message, remedy=remedy, location=place))


_SKIP: Any = object()


def _hints(section: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(section)


def _names(section: type[Any]) -> dict[str, str]:
    """Return every spelling of a section's keys with the name it stands for."""
    names = {}
    for declared in dataclasses.fields(section):
        names[declared.name] = declared.name
        for alias in declared.metadata.get("aliases", ()):
            names[alias] = declared.name
    return names


def _is_setting(section: type[Any], name: str) -> bool:
    return any(f.name == name and f.metadata for f in dataclasses.fields(section))


def _default_of(section: type[Any], name: str) -> Any:
    declared = {f.name: f for f in dataclasses.fields(section)}[name]
    assert declared.default_factory is not dataclasses.MISSING
    return declared.default_factory()


def _kind(node: yaml.Node) -> str:
    return _KINDS.get(node.tag, node.tag)


def _nearest(name: str, names: Mapping[str, str], dotted: str) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    elsewhere = [s.key for s in describe() if s.key.rpartition(".")[2] == name and s.key != dotted]
    if elsewhere:
        return f"it belongs at {elsewhere[0]}"
    return f"known here: {', '.join(sorted(set(names.values())))}"


def _overrides(environ: Mapping[str, str], reader: _Reader) -> list[tuple[list[str], yaml.Node, str]]:
    """Return (path, node, variable) for each TQSERVER_* variable; its value is read as YAML."""
    found = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        path = variable[len(PREFIX) :].lower().split("__")
        try:
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            node = None
        if node is None:
            node = yaml.ScalarNode("tag:yaml.org,2002:str", text)
        _mark(node, variable)
        found.append((path, node, variable))
    return found


def _mark(node: yaml.Node, variable: str) -> None:
    """Let errors name the variable as the place."""
    node.start_mark = yaml.Mark(variable, 0, 0, 0, None, 0)
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            _mark(part, variable)
