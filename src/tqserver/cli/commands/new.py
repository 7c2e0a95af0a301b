"""``tqserver new [DIR]``: a small project, complete enough to run and to change."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from tqserver.cli.output import GOOD, STRONG, Cell
from tqserver.cli.session import Session, json_option, pass_session
from tqserver.host.rundir import CONFIG_FILE
from tqserver.model.errors import HostError

PAGE = '''\
"""Answers / and everything that no other page does. Change it, save, reload the browser."""

from tqserver.page import Request

GREETING = "Hello"


async def get(request: Request):
    name = request.query_params.get("name", "world")
    return f"<!doctype html><title>{GREETING}</title><h1>{GREETING}, {name}</h1>"
'''
CONFIGURATION = """\
# Every key may be left out; unknown ones are errors that name the line.

mode: dev # dev shows a page's errors in the browser, prod does not

server:
  host: 127.0.0.1 # 0.0.0.0 to be reached from other machines
  port: 8080
"""
IGNORED = ".tqserver/\nlogs/\n__pycache__/\n"
FILES = {"pages/index/main.py": PAGE, str(CONFIG_FILE): CONFIGURATION, ".gitignore": IGNORED}


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@json_option
@pass_session
def command(session: Session, directory: Path) -> None:
    """Write a small project.

    Into DIRECTORY, or into this one. What is there is never overwritten.
    """
    there = [name for name in FILES if (directory / name).exists() and name != ".gitignore"]
    if there:
        raise HostError(f"{directory / there[0]} is there already", remedy="name a directory without a project")
    created = []
    for name, text in FILES.items():
        if not (directory / name).exists():
            _write(directory / name, text)
            created.append(str(directory / name))
    if session.as_json:
        session.output.document({"created": created, "version": 1})
        return
    for name in created:
        session.output.line(Cell("+ ", GOOD), name)
    go = "" if directory.resolve() == session.root else f"cd {shlex.quote(str(directory))} && "
    session.output.line("Run it: ", Cell(f"{go}tqserver", STRONG), ", then open http://127.0.0.1:8080")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(
            f"cannot write {file}: {error.strerror}", remedy="name a directory that you may write"
        ) from error
