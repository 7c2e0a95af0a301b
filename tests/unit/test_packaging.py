"""What the files of packaging/ refer to is there: programs, settings, files of the checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tqserver.cli.main import VERBS
from tqserver.model.settings import defaults

TOP = Path(__file__).parents[2]
PACKAGING = TOP / "packaging"
UNITS = ("tqserver.service", "tqserver.socket")


def directives(file: str) -> dict[str, list[str]]:
    """The directives of a unit, in order; one that comes again adds a value."""
    found: dict[str, list[str]] = {}
    for line in (PACKAGING / file).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines as one."""
    text = (PACKAGING / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def settings_in(assignments: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for text in assignments for word in shlex.split(text)]
    return {name: value for name, _, value in pairs if name.startswith("TQSERVER_")}


def test_the_variables_are_settings() -> None:
    service = defaults(settings_in(directives("tqserver.service")["Environment"]))
    assert service.mode == "prod"
    image = defaults(settings_in([text for step, text in steps() if step == "ENV"]))
    assert (image.mode, image.server.host, image.server.port) == ("prod", "0.0.0.0", 8080)
    assert ("EXPOSE", str(image.server.port)) in steps()


def test_the_service_gives_a_drain_its_time() -> None:
    service = directives("tqserver.service")
    settings = defaults({}).workers
    needed = settings.default.drain_seconds("prod") + settings.shutdown_grace_period_ms / 1000
    assert int(service["TimeoutStopSec"][0]) > needed
    assert service["Type"] == ["notify"]
    assert service["ReadWritePaths"] == service["WorkingDirectory"]


def test_the_program_is_the_one_that_is_installed() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(directives("tqserver.service")["ExecStart"][0]).name in scripts
    by_step = dict(steps())
    assert json.loads(by_step["ENTRYPOINT"])[0] in scripts
    program, verb, option = json.loads(by_step["HEALTHCHECK"].partition("CMD ")[2])
    assert program in scripts
    assert verb in VERBS
    assert option == "--json"
    assert by_step["STOPSIGNAL"] == signal.SIGTERM.name


def test_what_the_image_copies_is_in_the_checkout() -> None:
    copied = [text.split()[:-1] for step, text in steps() if step == "COPY" and not text.startswith("--from")]
    assert sorted(name for names in copied for name in names if not (TOP / name).exists()) == []
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert {name.partition("/")[0] for name in needed} <= {name for names in copied for name in names}
    constraint = re.search(r"PIP_CONSTRAINT=(\S+)", (PACKAGING / "Dockerfile").read_text())
    assert constraint is not None
    assert (TOP / constraint[1]).exists()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Whether it knows every directive and value; the program is put where it is here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = str(Path(sys.executable).with_name("tqserver"))
    for name in UNITS:
        text = (PACKAGING / name).read_text().replace("/opt/tqserver/bin/tqserver", program)
        (tmp_path / name).write_text(text)
    extended = tmp_path / "tqserver.service.d"
    extended.mkdir()
    shutil.copy(PACKAGING / "tqserver-users.conf", extended / "users.conf")
    verdict = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True, text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert verdict.returncode == 0, verdict.stderr
    assert "tqserver" not in verdict.stderr, verdict.stderr
