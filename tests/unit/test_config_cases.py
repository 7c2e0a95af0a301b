"""Each file of ``config_cases``: its configuration as the JSON of what is not default, or all its mistakes.

``NAME.yaml`` may set variables by lines ``# env: NAME=value``; ``NAME.expected`` is what comes of it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tqserver.model.config import Config, WorkerSettings
from tqserver.model.errors import ConfigError
from tqserver.model.settings import load_text

CASES = sorted(Path(__file__).with_name("config_cases").glob("*.yaml"))
ENV = "# env: "


def not_default(given: Any, default: Any) -> dict[str, Any]:
    """The members that differ; a path's settings are compared with the built-in defaults."""
    differing = {}
    for member in dataclasses.fields(given):
        value, usual = getattr(given, member.name), getattr(default, member.name)
        if member.name == "paths":
            value = {path: not_default(own, WorkerSettings()) for path, own in value.items()}
        elif dataclasses.is_dataclass(usual):
            value, usual = not_default(value, usual), {}
        elif dataclasses.is_dataclass(value):
            value = dataclasses.asdict(value)
        if value != usual:
            differing[member.name] = value
    return differing


def outcome(case: Path) -> str:
    text = case.read_text(encoding="utf-8")
    lines = [line.removeprefix(ENV) for line in text.splitlines() if line.startswith(ENV)]
    environ = dict(line.split("=", 1) for line in lines)
    try:
        config = load_text(text, case.name, environ)
    except ConfigError as error:
        return f"{error}\n"
    return json.dumps(not_default(config, Config()), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path) -> None:
    assert outcome(case) == case.with_suffix(".expected").read_text(encoding="utf-8")


def test_no_case_is_forgotten() -> None:
    expected = {case.stem for case in Path(__file__).with_name("config_cases").glob("*.expected")}
    assert expected == {case.stem for case in CASES}
    assert len(CASES) >= 30
