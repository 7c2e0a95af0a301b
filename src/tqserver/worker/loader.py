"""Page code by content.

The files of a revision are read from its artifact, which never changes, and compiled under the names that the author
knows: ``__file__``, tracebacks and data files say the page's own directory. Nothing below the project is read from or
written to a ``.pyc``: two edits of one length within a second would run stale code (cpython 75953).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType

ENTRY_MODULE = "main"


class ContentLoader(importlib.abc.InspectLoader):
    """Compiles one file's present content under the author's name for it."""

    def __init__(self, source: str, shown: str) -> None:
        self._source = source
        self._shown = shown

    def get_source(self, fullname: str) -> str:
        """Return the text, as tracebacks show it (linecache asks for it)."""
        return importlib.util.decode_source(self._bytes())

    def _bytes(self) -> bytes:
        with open(self._source, "rb") as file:
            return file.read()

    def get_code(self, fullname: str) -> CodeType:
        """Compile, always."""
        code: CodeType = compile(self._bytes(), self._shown, "exec", dont_inherit=True)
        return code

    def get_filename(self, fullname: str) -> str:
        """Return the author's name for the file."""
        return self._shown


class ProjectFinder(importlib.abc.MetaPathFinder):
    """Finds modules in the page's artifact, then in the project; tells of those outside the page."""

    def __init__(self, directory: str, artifact: str, project: str, on_file: Callable[[str], None]) -> None:
        self._roots = ((directory, artifact), (project, project))
        self._directory = directory + os.sep
        self._on_file = on_file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module or package of the project, None for all others."""
        name = fullname.rpartition(".")[2]
        for shown_root, real_root in self._roots:
            for shown in [shown_root] if path is None else path:
                if shown != shown_root and not shown.startswith(shown_root + os.sep):
                    continue
                real = real_root + shown[len(shown_root) :]
                spec = self._spec_in(fullname, name, shown, real)
                if spec is not None:
                    return spec
        return None

    def _spec_in(self, fullname: str, name: str, shown: str, real: str) -> importlib.machinery.ModuleSpec | None:
        for tail, is_package in ((f"{name}/__init__.py", True), (f"{name}.py", False)):
            source, visible = f"{real}/{tail}", f"{shown}/{tail}"
            if not os.path.isfile(source):
                continue
            spec = importlib.util.spec_from_file_location(
                fullname,
                visible,
                loader=ContentLoader(source, visible),
                submodule_search_locations=[os.path.dirname(visible)] if is_package else None,
            )
            if not visible.startswith(self._directory):
                self._on_file(visible)
            return spec
        return None


def load_page(directory: str, entry: str, artifact: str, project: str, on_file: Callable[[str], None]) -> ModuleType:
    """Import a page's entry file as the module ``main``. Raises whatever its code raises."""
    sys.meta_path.insert(0, ProjectFinder(directory, artifact, project, on_file))
    sys.path[:0] = [directory, project]  # for tools that look there; imports go by the finder above
    spec = importlib.util.spec_from_file_location(
        ENTRY_MODULE,
        f"{directory}/{entry}",
        loader=ContentLoader(f"{artifact}/{entry}", f"{directory}/{entry}"),
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[ENTRY_MODULE] = module
    spec.loader.exec_module(module)
    return module


def foreign_modules(project: str, before: frozenset[str]) -> list[str]:
    """Return the modules imported from outside the project since ``before``, in order of import."""
    inside = project + os.sep
    names = []
    for name, module in list(sys.modules.items()):
        if name in before or name.startswith("tqserver") or name == ENTRY_MODULE:
            continue
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if not isinstance(origin, str) or origin in ("built-in", "frozen") or not os.path.isabs(origin):
            continue
        if not origin.startswith(inside) or "site-packages" in origin:
            names.append(name)
    return names
