"""What a Go page depends on, told from package clauses, import declarations and go.mod.

``go list -deps`` would say it too, in 100 ms: this is asked several times for each save. Where the two could
differ, this names more: a build too many is quick, one too few is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.files import Unsettled, is_ignored, unreadable

_COMMENTS = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PACKAGE = re.compile(rb"\A\s*package\s+(\w+)")
_IGNORED_BY_GO = re.compile(rb"^//\s?(?:go:build\s+ignore\b|\+build\s+ignore\b)", re.MULTILINE)
_IMPORT = re.compile(rb'\bimport\s*(?:\(([^)]*)\)|(?:[\w.]+\s*)?(["`][^"`]+["`]))')
_QUOTED = re.compile(rb'["`]([^"`]+)["`]')
_EMBEDS = re.compile(rb"^//go:embed\b", re.MULTILINE)
_MODULE = re.compile(r'^\s*module\s+"?([^\s"]+)', re.MULTILINE)
_LOCAL_REPLACE = re.compile(r'^\s*(?:replace\s+)?"?([^\s"(]+)"?(?:\s+v\S+)?\s*=>\s*"?(\.{0,2}/[^"\n]*?)"?\s*$', re.M)
_USE = re.compile(r"^\s*(?:use\s+)?\"?(\.{1,2}(?:/[^\s\"]*)?)\"?\s*$", re.MULTILINE)
MODULE_MARKS = ("go.mod", "go.work")  # what makes a directory the top of a module or a workspace
_MODULE_FILES = ("go.mod", "go.sum", "vendor/modules.txt")
_WORKSPACE_FILES = ("go.work", "go.work.sum")


def is_source(name: str) -> bool:
    """Tell whether ``go build`` looks at a file of this name."""
    return name.endswith(".go") and not name.endswith("_test.go") and not name.startswith(("_", "."))


def package_of(source: bytes) -> str | None:
    """Return the name in the package clause; empty if Go is told to ignore the file, None if there is no clause."""
    if _IGNORED_BY_GO.search(source):
        return ""
    found = _PACKAGE.match(_COMMENTS.sub(b" ", source.removeprefix(b"\xef\xbb\xbf")))
    return found[1].decode() if found else None


def imports_of(source: bytes) -> set[str]:
    """Return the import paths of a source file.

    Code that looks like a comment is cut as well, which harms nothing: imports come first in a file.
    """
    paths: set[str] = set()
    for block, single in _IMPORT.findall(_COMMENTS.sub(b" ", source)):
        paths |= {path.decode(errors="replace") for path in _QUOTED.findall(block or single)}
    return paths


@dataclass(frozen=True, slots=True)
class Module:
    """The module that a page belongs to. ``local`` maps module paths to the directories of their sources.

    ``files`` are the go.mod, go.sum and go.work of all of these, there or not: one that appears counts.
    """

    directory: Path
    local: Mapping[str, Path]
    files: tuple[Path, ...]

    @classmethod
    def above(cls, directory: Path, root: Path) -> Module | None:
        """Return the module around a directory, looking no higher than the project's root."""
        for candidate in parents_within(directory, root):
            if (candidate / "go.mod").is_file():
                return cls._read(candidate, root)
        return None

    @classmethod
    def _read(cls, directory: Path, root: Path) -> Module:
        files = [directory / name for name in _MODULE_FILES]
        places = {directory, *_replaced(directory)}
        for parent in parents_within(directory, root):
            if (parent / "go.work").is_file():
                places |= {Path(os.path.normpath(parent / use)) for use in _USE.findall(_text(parent / "go.work"))}
                files += [parent / name for name in _WORKSPACE_FILES]
                break
        local = {}
        for place in sorted(places):
            if (place / "go.mod").is_file():
                files += [place / name for name in _MODULE_FILES]
                if found := _MODULE.search(_text(place / "go.mod")):
                    local[found[1]] = place
        local |= _replaced_paths(directory)
        return cls(directory, local, tuple(sorted(set(files))))

    def directory_of(self, import_path: str) -> Path | None:
        """Return the directory of a package of the project, None for the standard library and downloads."""
        for path, place in sorted(self.local.items(), key=lambda item: -len(item[0])):
            if import_path == path or import_path.startswith(path + "/"):
                return place / import_path[len(path) :].lstrip("/")
        vendored = self.directory / "vendor" / import_path
        return vendored if vendored.is_dir() else None


def parents_within(directory: Path, root: Path) -> Iterator[Path]:
    """Yield a directory and those above it, up to the root."""
    yield directory
    if directory != root and directory.is_relative_to(root):
        yield from parents_within(directory.parent, root)


def packages_needed(module: Module, page_files: list[Path]) -> tuple[set[Path], set[Path]]:
    """Return the files and the directories of the project's packages that a page imports, at any remove.

    A directory that is imported and not there is among them: the page waits for it.
    """
    files: set[Path] = set()
    directories: set[Path] = set()
    pending = _imported(module, page_files)
    while pending:
        package = pending.pop()
        if package in directories:
            continue
        directories.add(package)
        if package.is_dir():
            found = _package_files(package)
            files.update(found)
            directories.update(file.parent for file in found)
            pending |= _imported(module, found)
    return files, directories


def _imported(module: Module, files: list[Path]) -> set[Path]:
    found: set[Path] = set()
    for file in files:
        if is_source(file.name):
            found.update(filter(None, map(module.directory_of, imports_of(_bytes(file)))))
    return found


def _package_files(package: Path) -> list[Path]:
    """Return what a package is made of: its directory's files, and all below it if it embeds files."""
    try:
        entries = sorted(package.iterdir())
    except FileNotFoundError:
        raise Unsettled(f"{package} has vanished") from None
    except OSError as error:
        raise unreadable(package, "directory", error) from error
    files = [
        entry
        for entry in entries
        if entry.is_file() and not is_ignored(entry.name) and not entry.name.endswith("_test.go")
    ]
    if any(is_source(file.name) and _EMBEDS.search(_bytes(file)) for file in files):
        files += [Path(top, name) for top, _, names in os.walk(package) for name in names if top != str(package)]
    return files


def _replaced(directory: Path) -> set[Path]:
    return set(_replaced_paths(directory).values())


def _replaced_paths(directory: Path) -> dict[str, Path]:
    found = _LOCAL_REPLACE.findall(_text(directory / "go.mod"))
    return {path: Path(os.path.normpath(directory / place)) for path, place in found}


def _text(file: Path) -> str:
    return re.sub(r"//.*", "", _bytes(file).decode(errors="replace"))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise Unsettled(f"{file} has vanished") from None
    except OSError as error:
        raise unreadable(file, "file", error) from error
