"""What a configuration answers, and that its parser has no other way to fail than to say what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.control.config_file import ConfigFile
from tqserver.model.config import Config, ServerSettings, WorkerSettings, describe
from tqserver.model.errors import ConfigError, ExitCode, HostError, Location
from tqserver.model.settings import ConfigProblems, defaults, load_text

PATHS = """
workers:
  default: {max_requests: 1}
  paths:
    /api: {max_requests: 2}
    /api/users: {max_requests: 3}
    /users/[id]: {max_requests: 4}
"""


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("/api", 2),
        ("/api/orders", 2),
        ("/api/users", 3),
        ("/api/users/[id]/posts", 3),
        ("/apix", 1),
        ("/api-v2/users", 1),
        ("/users", 1),
        ("/users/[id]", 4),
        ("/users/[id]/posts", 4),
        ("/users/[name]", 1),
        ("/", 1),
    ],
)
def test_settings_of_a_route(route: str, expected: int) -> None:
    assert load_text(PATHS, "f.yaml", {}).workers.for_route(route).max_requests == expected


def test_the_path_of_the_root_is_a_prefix_of_every_route() -> None:
    workers = load_text("workers: {paths: {/: {max_requests: 9}}}", "f.yaml", {}).workers
    assert [workers.for_route(route).max_requests for route in ("/", "/a", "/a/b")] == [9, 9, 9]
    assert workers.default.max_requests == 0


def test_without_a_file_the_defaults_hold() -> None:
    assert defaults({}) == load_text("", "f.yaml", {}) == Config()
    assert defaults({"TQSERVER_SERVER__PORT": "1"}).server.port == 1


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)])
def test_half_the_cores_run_proxies(cores: int, expected: int) -> None:
    assert ServerSettings().proxy_count(cores) == expected
    assert ServerSettings(proxies=3).proxy_count(cores) == 3


def test_a_drain_is_short_in_dev() -> None:
    settings = WorkerSettings()
    assert (settings.drain_seconds("dev"), settings.drain_seconds("prod")) == (2, 30)
    assert WorkerSettings(drain_timeout_seconds=0).drain_seconds("prod") == 0


def test_mistakes_come_with_their_places() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("server:\n  prot: 1\nmode: x\n", "conf.yaml", {"TQSERVER_X": ""})
    assert isinstance(caught.value, ConfigProblems)
    assert [problem.location for problem in caught.value.problems] == [
        Location("conf.yaml", 2, 3),
        Location("conf.yaml", 3, 7),
        Location("TQSERVER_X"),
    ]
    assert caught.value.exit_code == ExitCode.CONFIG


def test_numbers_stay_as_they_were_written() -> None:
    """A worker reads READ_TIMEOUT_SECONDS as a whole number if one was given."""
    config = load_text("server: {read_timeout_seconds: 15, write_timeout_seconds: 1.5}", "f.yaml", {})
    assert str(config.server.read_timeout_seconds) == "15"
    assert str(config.server.write_timeout_seconds) == "1.5"


# --- whatever the text, the answer is a configuration or a list of mistakes -------------------------------

words = st.sampled_from(
    ["server", "workers", "default", "paths", "port", "env", "tls", "mode", "/api", "x", "<<", "1", "on", "~"]
)
trees = st.recursive(
    words | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def in_flow_style(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {in_flow_style(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(in_flow_style, tree)) + "]"
    return "null" if tree is None else str(tree)


def loads_or_says_why(text: str, environ: dict[str, str]) -> None:
    try:
        load_text(text, "f.yaml", environ)
    except ConfigProblems as error:
        assert error.problems
        assert all(problem.location and problem.location.file for problem in error.problems)


@given(trees.map(in_flow_style))
def test_any_tree(text: str) -> None:
    loads_or_says_why(text, {})


@given(st.text(alphabet="ab:/-{}[]&*<!|>?#'\"%@\n\t ~0.1,\x00\x85\ufeff", max_size=60))
def test_any_text(text: str) -> None:
    loads_or_says_why(text, {})


@given(st.sampled_from([known.key for known in describe()]), st.text(max_size=12))
def test_any_variable(key: str, value: str) -> None:
    loads_or_says_why("", {"TQSERVER_" + key.replace(".", "__").upper(): value})


@pytest.mark.parametrize("level", ["[", "{a: ", "- ", "? "])
def test_nesting_without_end_is_refused_by_its_place(level: str) -> None:
    with pytest.raises(ConfigError, match="100 levels deep") as caught:
        load_text("# deep\n" + level * 100_000, "f.yaml", {})
    assert caught.value.location == Location("f.yaml", 2, 1 + 100 * len(level))


def test_what_is_merged_many_times_is_read_once() -> None:
    """Each line merges the one before it twice: to walk every way would take 2 ** 200 steps."""
    lines = ["  /0: &x0 {max_requests: 7}", *(f"  /{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}]}}" for n in range(1, 30))]
    config = load_text("workers:\n paths:\n" + "\n".join(lines) + "\n", "f.yaml", {})
    assert config.workers.for_route("/29").max_requests == 7


def test_what_is_merged_first_yields_to_nothing_that_is_merged_later() -> None:
    text = """
workers:
  paths:
    /c: &c {max_requests: 3}
    /b: &b {max_requests: 2}
    /a: &a {<<: *c}
    /x: {<<: [*a, *b, *c]}
"""
    assert load_text(text, "f.yaml", {}).workers.for_route("/x").max_requests == 3


def test_merges_without_end_are_refused() -> None:
    lines = ["  /0: &x0 {}", *(f"  /{n}: &x{n} {{<<: *x{n - 1}}}" for n in range(1, 2000))]
    with pytest.raises(ConfigError, match="more than 32 mappings"):
        load_text("workers:\n paths:\n" + "\n".join(lines) + "\n", "f.yaml", {})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "no regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "no regular file"),
        (lambda file: file.write_bytes(b" " * 2**21), "larger than 1024 KiB"),
    ],
    ids=["pipe", "device", "large"],
)
def test_a_file_that_is_no_text_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "server.yaml")
    with pytest.raises(HostError, match=said) as caught:
        ConfigFile(tmp_path, Path("server.yaml"), {}).read()
    assert caught.value.remedy and "server.yaml" in caught.value.message


def test_the_name_of_a_variable_has_no_nul() -> None:
    with pytest.raises(ConfigError, match="the name of a variable"):
        load_text('workers: {default: {env: {"a\\0b": x}}}', "f.yaml", {})
