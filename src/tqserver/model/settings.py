"""Text to configuration: strict, with file, line and column.

Nothing is coerced and nothing is ignored: an unknown or repeated key, a value of another kind or out of
range, and settings that contradict each other are errors. All of them are reported at once, and nothing of a
text with an error is applied.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from tqserver.model.config import Config, WorkerSettings, WorkersSettings, section_of
from tqserver.model.errors import ConfigError, Location
from tqserver.model.given import PATHS, Given, Key, dotted, read_environment, read_file

DEFAULT: Key = ("workers", "default")


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """What the settings ``keys`` together cannot be; the first to blame first, as far as they were given."""

    keys: tuple[Key, ...]
    message: str
    remedy: str


Judge = Callable[[Config], Iterable[Contradiction]]


class ConfigProblems(ConfigError):
    """All that is wrong with a configuration: ``problems``, in the order of their places."""

    def __init__(self, problems: list[ConfigError]) -> None:
        if len(problems) == 1:
            only = problems[0]
            super().__init__(only.message, remedy=only.remedy, location=only.location)
        else:
            lines = "".join(f"\n  {problem}" for problem in problems)
            super().__init__(f"{len(problems)} mistakes in the configuration:{lines}")
        self.problems = problems


def load_text(text: str, file: str, environ: Mapping[str, str], judge: Judge = lambda _: ()) -> Config:
    """Return the configuration in a YAML text, with the TQSERVER_* variables of ``environ`` over it.

    ``file`` is the text's name in messages; ``judge`` says what of it this machine cannot give. An empty text is
    the defaults. Raises :class:`ConfigProblems`.
    """
    given, variables = Given(), Given()
    read_file(text, file, given)
    read_environment(environ, variables)
    given.values |= variables.values
    given.places |= variables.places
    given.wrong |= variables.wrong
    given.problems += variables.problems
    config: Config = _assemble(Config, (), given)
    config = dataclasses.replace(config, workers=_with_paths(config.workers, given))
    _cross_check([*_contradictions(config), *judge(config)], given)
    if given.problems:
        raise ConfigProblems(sorted(given.problems, key=_in_order))
    return config


def place_of(key: Key, text: str, file: str, environ: Mapping[str, str]) -> Location:
    """Return where a setting is given, as :func:`load_text` reads it; the file if nowhere."""
    given, variables = Given(), Given()
    read_file(text, file, given)
    read_environment(environ, variables)
    return (given.places | variables.places).get(key, Location(file))


def defaults(environ: Mapping[str, str]) -> Config:
    """Return what holds without a file. Raises :class:`ConfigProblems` for a variable that is wrong."""
    return load_text("", "", environ)


def _in_order(problem: ConfigError) -> tuple[bool, int, int]:
    place = problem.location or Location("")
    return place.line == 0, place.line, place.column  # variables, which have no line, come last


# --- values to settings -----------------------------------------------------------------------------------


def _assemble(section: type[Any], key: Key, given: Given) -> Any:
    """Return the section with what is given over its defaults; None if it lacks what has no default."""
    values: dict[str, Any] = {}
    missing = []
    for member in dataclasses.fields(section):
        own = (*key, member.name)
        within = section_of(member)
        if within is not None:
            if member.default is not None or any(place[: len(own)] == own for place in given.places):
                values[member.name] = _assemble(within, own, given)
        elif own in given.values:
            values[member.name] = given.values[own]
        elif member.default is dataclasses.MISSING and member.default_factory is dataclasses.MISSING:
            missing.append(own)
    for own in missing:
        if given.wrong.isdisjoint((key, own)):
            place = next(place for at, place in given.places.items() if at[: len(key)] == key)
            given.problem(place, f"{dotted(key)} needs {own[-1]}", f"give {dotted(own)}")
    return None if missing else section(**values)


def _with_paths(workers: WorkersSettings, given: Given) -> WorkersSettings:
    """Complete each path's settings with those of the default, and ``max_workers`` where nobody gave it."""
    named = {key[-1] for key in given.values if key[:-1] == DEFAULT}
    paths = {}
    for at in given.places:
        if len(at) == len(PATHS) + 1 and at[:-1] == PATHS:
            own = {key[-1]: value for key, value in given.values.items() if key[:-1] == at}
            paths[at[-1]] = _with_room(dataclasses.replace(workers.default, **own), named | own.keys())
    return dataclasses.replace(workers, default=_with_room(workers.default, named), paths=paths)


def _with_room(settings: WorkerSettings, named: Set[str]) -> WorkerSettings:
    if "max_workers" in named or settings.max_workers >= settings.min_workers:
        return settings
    return dataclasses.replace(settings, max_workers=settings.min_workers)


# --- settings that contradict each other ------------------------------------------------------------------


def _cross_check(contradictions: Iterable[Contradiction], given: Given) -> None:
    for found in contradictions:
        if given.wrong.isdisjoint(found.keys):
            place = next(given.places[key] for key in found.keys if key in given.places)
            given.problem(place, found.message, found.remedy)


def _contradictions(config: Config) -> Iterator[Contradiction]:
    yield from _of_ports(config)
    workers = config.workers
    yield from _of_numbers(DEFAULT, workers.default)
    for path, settings in workers.paths.items():
        if _bounds(settings) != _bounds(workers.default):  # what a path has from the default is told there
            yield from _of_numbers((*PATHS, path), settings)


def _of_ports(config: Config) -> Iterator[Contradiction]:
    first, last, port = config.workers.port_range_start, config.workers.port_range_end, config.server.port
    ends = (("workers", "port_range_end"), ("workers", "port_range_start"))
    if first > last:
        yield Contradiction(
            ends,
            f"workers.port_range_start ({first}) is above workers.port_range_end ({last})",
            "give the lower of the two as the start",
        )
        return
    taken: dict[Key, int] = {("server", "port"): port}
    if config.server.metrics is not None:
        taken["server", "metrics"] = config.server.metrics.port
    if config.server.tls is not None and config.server.tls.redirect_port is not None:
        taken["server", "tls", "redirect_port"] = config.server.tls.redirect_port
    for key, number in taken.items():
        if first <= number <= last:
            yield Contradiction(
                (key, *ends),
                f"{dotted(key)} ({number}) is one of the ports of the workers ({first} to {last})",
                "choose a port outside workers.port_range_start and port_range_end",
            )
    for earlier, key in itertools.combinations(taken, 2):
        if taken[key] == taken[earlier] != 0:
            yield Contradiction(
                (key, earlier),
                f"{dotted(key)} and {dotted(earlier)} are one port ({taken[key]})",
                f"choose another for {dotted(key)}",
            )


def _of_numbers(at: Key, settings: WorkerSettings) -> Iterator[Contradiction]:
    least, most = _bounds(settings)
    if most < least:
        yield Contradiction(
            tuple((*base, name) for base in (at, DEFAULT) for name in ("max_workers", "min_workers")),
            f"{dotted(at)}: max_workers ({most}) is below min_workers ({least})",
            f"set max_workers to {least} or more",
        )


def worker_settings(config: Config) -> Iterator[tuple[Key, WorkerSettings]]:
    """Yield the settings of workers by the key of their section: the default's, then each path's."""
    yield DEFAULT, config.workers.default
    for path, settings in config.workers.paths.items():
        yield (*PATHS, path), settings


def _bounds(settings: WorkerSettings) -> tuple[int, int]:
    return settings.min_workers, settings.max_workers
