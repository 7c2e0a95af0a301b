"""What a Go page depends on, told from package clauses, import declarations and go.mod.

``go list -deps`` would say it too, in 100 ms: this is asked several times for each save. Where the two could
differ, this names more: a build too many is quick, one too few is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqserver.build.files import LARGEST_SOURCE_BYTES, Unsettled, is_ignored, unreadable
from tqserver.host import reading

_COMMENTS = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)
_PACKAGE = re.compile(rb"\A\s*package\s+(\w+)")
_IGNORED_BY_GO = re.compile(rb"^//\s?(?:go:build\s+ignore\b|\+build\s+ignore\b)", re.MULTILINE)
_IMPORT = re.compile(rb'\bimport\s*(?:\(([^)]*)\)|(?:[\w.]+\s*)?(["`][^"`]+["`]))')
_QUOTED = re.compile(rb'["`]([^"`]+)["`]')
_EMBEDS = re.compile(rb"^//go:embed\b", re.MULTILINE)
_TOKEN = re.compile(r"""//.*|"[^"]*"|`[^`]*`|[()]|=>|[^\s()"`]+""")
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
            if _is_module(candidate):
                return cls._read(candidate, root)
        return None

    @classmethod
    def _read(cls, directory: Path, root: Path) -> Module:
        workspace = next(
            (parent for parent in parents_within(directory, root) if os.path.isfile(parent / "go.work")), None
        )
        tops = {directory}
        local: dict[str, Path] = {}
        if workspace is not None:
            directives = list(_directives(workspace / "go.work"))
            tops |= {_place(workspace, words[0]) for verb, words in directives if verb == "use" and words}
            local |= _replaced(workspace, directives)
        for top in sorted(filter(_is_module, tops)):
            directives = list(_directives(top / "go.mod"))
            local |= _replaced(top, directives)
            local |= {words[0]: top for verb, words in directives if verb == "module" and words}
        files = {place / name for place in {*tops, *local.values()} for name in _MODULE_FILES}
        files |= {(workspace or directory) / name for name in _WORKSPACE_FILES}
        return cls(directory, local, tuple(sorted(files)))

    def directory_of(self, import_path: str) -> Path | None:
        """Return the directory of a package of the project, None for the standard library and downloads."""
        for path, place in sorted(self.local.items(), key=lambda item: -len(item[0])):
            if import_path == path or import_path.startswith(path + "/"):
                return place / import_path[len(path) :].lstrip("/")
        vendored = self.directory / "vendor" / import_path
        return vendored if os.path.isdir(vendored) else None


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
        if os.path.isdir(package):
            found = _package_files(package)
            files.update(found)
            directories.update(file.parent for file in found)
            pending |= _imported(module, found)
    return files, directories


def _imported(module: Module, files: list[Path]) -> set[Path]:
    found: set[Path] = set()
    for file in files:
        if is_source(file.name):
            found.update(filter(None, map(module.directory_of, imports_of(source_of(file)))))
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
        if os.path.isfile(entry) and not is_ignored(entry.name) and not entry.name.endswith("_test.go")
    ]
    if any(is_source(file.name) and _EMBEDS.search(source_of(file)) for file in files):
        files += [Path(top, name) for top, _, names in os.walk(package) for name in names if top != str(package)]
    return files


def _is_module(directory: Path) -> bool:
    """Tell whether a module begins here, as far as this user may see: os.path does not raise where he may not."""
    return os.path.isfile(directory / "go.mod")


def _directives(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the verb and the words of each line of a go.mod or go.work, those in blocks as if they stood alone."""
    block = ""
    for line in source_of(file).decode(errors="replace").splitlines():
        words = [token.strip('"`') for token in _TOKEN.findall(line) if not token.startswith("//")]
        if not words:
            continue
        if words[0] == ")":
            block = ""
        elif block:
            yield block, words
        elif words[-1] == "(":
            block = words[0]
        else:
            yield words[0], words[1:]


def _replaced(directory: Path, directives: Iterable[tuple[str, list[str]]]) -> dict[str, Path]:
    """Return the modules that are replaced by directories, which begin with . or / (Go Modules Reference, replace)."""
    return {
        words[0]: _place(directory, words[-1])
        for verb, words in directives
        if verb == "replace" and "=>" in words and words[-1].startswith((".", "/"))
    }


def _place(directory: Path, name: str) -> Path:
    return Path(os.path.normpath(directory / name))


def source_of(file: Path) -> bytes:
    """Return the text of a source file. Raises :class:`~tqserver.model.errors.PageError` or :class:`Unsettled`."""
    try:
        return reading.read(file, LARGEST_SOURCE_BYTES)
    except FileNotFoundError:
        raise Unsettled(f"{file} has vanished") from None
    except OSError as error:
        raise unreadable(file, "file", error) from error
