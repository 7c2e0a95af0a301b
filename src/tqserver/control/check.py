"""What can be said of a project without running it: configuration, pages, conflicts, toolchains."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tqserver.build.files import LARGEST_SOURCE_BYTES, page_files
from tqserver.build.registry import by_name
from tqserver.build.runtimes.python import PythonRuntime
from tqserver.control.certificates import examine
from tqserver.control.config_file import ConfigFile
from tqserver.control.discovery import Discovery, discover
from tqserver.host import clock, reading
from tqserver.host.tls import BadCertificate
from tqserver.model.config import Config
from tqserver.model.errors import ConfigError, HostError, Location, TQError
from tqserver.model.settings import ConfigProblems
from tqserver.model.status import Finding, Findings

OK = "ok"
NOTE = "note"
PROBLEM = "problem"


def check(project: Path, config_file: Path) -> Findings:
    """Return what is right and what is wrong; all of it, not only the first."""
    findings: list[Finding] = []
    config = Config()
    file = ConfigFile(project, config_file, os.environ)
    try:
        config = file.read()
        missing = "" if file.path.exists() else "no "
        findings.append(Finding(OK, "configuration", f"{missing}{config_file}" + (": the defaults" if missing else "")))
        findings += certificate(project, config, file.where)
    except ConfigError as error:
        wrong = error.problems if isinstance(error, ConfigProblems) else [error]
        findings += [_problem("configuration", each) for each in wrong]
    else:
        findings += _only_elsewhere(file)
    try:
        found = discover(project / config.pages.directory)
    except HostError as error:
        return Findings([*findings, _problem("pages", error)])
    return Findings([*findings, *_pages(found), *_syntax(found), *_toolchains(found)])


def _only_elsewhere(file: ConfigFile) -> Iterator[Finding]:
    """What is right and cannot be done here and now: it may be checked on another machine than it is served."""
    try:
        file.read_to_serve()
    except ConfigProblems as error:
        for each in error.problems:
            remedy = f"a server that was started so would refuse it; {each.remedy}"
            yield Finding(NOTE, "configuration", each.message, remedy, str(each.location or ""))


def _pages(found: Discovery) -> Iterator[Finding]:
    broken = {problem.page for problem in found.problems}
    for problem in found.problems:
        yield _problem(f"pages/{problem.page}", problem.error)
    fine = sum(name not in broken for name in found.pages)
    yield Finding(OK if fine or broken else NOTE, "pages", str(fine), "" if fine or broken else "tqserver new")


def _syntax(found: Discovery) -> Iterator[Finding]:
    """What Python itself refuses; only importing a page would tell more, and that would run it."""
    for page in found.pages.values():
        for file in page_files(page) if page.runtime == PythonRuntime.name else ():
            if file.suffix == ".py":
                yield from _mistakes(f"pages/{page.name}", file)


def _mistakes(name: str, file: Path) -> Iterator[Finding]:
    try:
        compile(reading.read(file, LARGEST_SOURCE_BYTES), str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        place = Location(str(file), error.lineno or 0, error.offset or 0)
        yield Finding(PROBLEM, name, f"{type(error).__name__}: {error.msg}", where=str(place))
    except (ValueError, OSError) as error:  # a NUL byte; unreadable
        yield Finding(PROBLEM, name, str(error), where=str(file))


def _toolchains(found: Discovery) -> Iterator[Finding]:
    """What the languages of these pages need."""
    for runtime in sorted({page.runtime for page in found.pages.values()}):
        yield toolchain(runtime, is_needed=True)


def certificate(project: Path, config: Config, where: Callable[..., Location] | None = None) -> Iterator[Finding]:
    """Tell of server.tls, if it is set; ``where`` tells in which place."""
    if config.server.tls is None:
        return
    try:
        proof, warnings = examine(project, config.server.tls)
    except BadCertificate as error:
        if where is not None:
            error.location = where("server", "tls", error.setting)
        yield _problem("certificate", error)
        return
    for reason, remedy in warnings:
        yield Finding(NOTE, "certificate", reason, remedy)
    if not warnings:
        names = ", ".join(proof.names)
        yield Finding(OK, "certificate", f"for {names}, until {clock.timestamp(proof.ends_at)}")


def toolchain(runtime: str, *, is_needed: bool) -> Finding:
    """Tell whether the machine has what pages of a language need; without, it is a problem only if there are any."""
    need, name = by_name(runtime).requirement(), f"{runtime} pages"
    if not need.remedy:
        return Finding(OK, name, need.found)
    if is_needed:
        return Finding(PROBLEM, name, "their toolchain is missing", need.remedy)
    return Finding(NOTE, name, "no toolchain; no page needs one", need.remedy)


def _problem(name: str, error: TQError) -> Finding:
    return Finding(PROBLEM, name, error.message, error.remedy, str(error.location or ""))
