"""Page code by content.

The files of a revision are read from its artifact, which never changes, and compiled under the names that
the author knows: ``__file__``, tracebacks and data files say the page's own directory. Nothing of the project
is read from or written to a ``.pyc``: two edits of one length within a second would run stale code (cpython
75953).

It is a hook of ``sys.path_hooks``, not a finder on ``sys.meta_path``: so whatever a page adds to ``sys.path``
or to a package's ``__path__`` keeps the order and the meaning that Python gives it, and an environment
(``.venv``) that lies in the project is left to Python's own machinery.

Paths are text here, as the import system has them: every start of a worker pays for what is slow.
"""

from __future__ import annotations

import itertools
import linecache
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import decode_source, module_from_spec, spec_from_file_location
from types import CodeType, ModuleType

ENTRY_MODULE = "main"
_PACKAGE_DIRECTORIES = ("site-packages", "dist-packages")
_INSTALLED = [
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *site.getsitepackages(),
]
_LIBRARIES = tuple({path + os.sep for path in (*_INSTALLED, *map(os.path.realpath, _INSTALLED))})


class Layout:
    """What is the project's, what is the page's, and where the page's files are read instead.

    ``on_file`` is told each file of the project outside the page that is read, by any thread.
    """

    def __init__(
        self, directory: str, artifact: str, project: str, on_file: Callable[[str], None] = lambda _: None
    ) -> None:
        self.directory = directory
        self.artifact = artifact
        self.project = project
        self._pages = {directory, os.path.realpath(directory)}
        self._projects = {project, os.path.realpath(project)}
        self._on_file = on_file

    def owns(self, path: str) -> bool:
        """Whether an absolute path is of the project's own code: not of an environment inside it."""
        if any(_is_below(path, page) for page in self._pages):
            return True
        return any(_is_below(path, project) for project in self._projects) and not _is_installed(path)

    def real(self, path: str) -> str:
        """Return where to read the file that the author knows as ``path``."""
        for page in self._pages:
            if _is_below(path, page):
                return self.artifact + path[len(page) :]
        return path

    def read(self, path: str) -> bytes:
        """Return the content of a file; control hears of it unless it is the page's own."""
        real = self.real(path)
        if real is path:
            self._on_file(path)
        with open(real, "rb") as file:
            return file.read()


class ContentLoader(SourceFileLoader):
    """Compiles the present content of one file under the author's name for it."""

    def __init__(self, fullname: str, path: str, layout: Layout) -> None:
        super().__init__(fullname, path)
        self._layout = layout

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file beside the module (pkgutil.get_data), the page's from its artifact."""
        return self._layout.read(path)

    def get_code(self, fullname: str) -> CodeType:
        """Compile, always."""
        source = self._layout.read(self.path)
        _show_in_tracebacks(self.path, source)
        try:
            code: CodeType = compile(source, self.path, "exec", dont_inherit=True)
        except ValueError as error:  # of a NUL, which is a SyntaxError since Python 3.11.4
            raise SyntaxError(str(error)) from None
        return code


def _show_in_tracebacks(path: str, source: bytes) -> None:
    """Give linecache the lines that run: the file on disk may be a later revision by then."""
    try:
        text = decode_source(source)
    except (SyntaxError, UnicodeDecodeError):
        return  # the compiler is about to say so
    # An entry without a time of modification is never compared with the disk (linecache.checkcache).
    linecache.cache[path] = (len(source), None, text.splitlines(keepends=True), path)


class DirectoryFinder:
    """Finds modules in one directory of the project, in the order of importlib's FileFinder."""

    def __init__(self, directory: str, layout: Layout) -> None:
        self._directory = directory
        self._layout = layout

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module, a package or a portion of a namespace package."""
        shown = os.path.join(self._directory, fullname.rpartition(".")[2])
        real = self._layout.real(shown)
        if os.path.isfile(f"{real}/__init__.py"):
            return self._source(fullname, f"{shown}/__init__.py", [shown])
        for suffix in EXTENSION_SUFFIXES:
            if os.path.isfile(real + suffix):
                loader = ExtensionFileLoader(fullname, real + suffix)
                return spec_from_file_location(fullname, real + suffix, loader=loader)
        if os.path.isfile(f"{real}.py"):
            return self._source(fullname, f"{shown}.py", None)
        if os.path.isdir(real):
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [shown]
            return spec
        return None

    def _source(self, fullname: str, path: str, locations: list[str] | None) -> ModuleSpec | None:
        loader = ContentLoader(fullname, path, self._layout)
        return spec_from_file_location(fullname, path, loader=loader, submodule_search_locations=locations)

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Yield names and whether each is a package (pkgutil.iter_modules)."""
        real = self._layout.real(self._directory)
        for name in sorted(os.listdir(real)) if os.path.isdir(real) else ():
            stem, dot, suffix = name.partition(".")
            if dot + suffix in (".py", *EXTENSION_SUFFIXES) and stem != "__init__":
                yield prefix + stem, False
            elif os.path.isfile(f"{real}/{name}/__init__.py"):
                yield prefix + name, True


def install(layout: Layout) -> None:
    """Put the page's directory and the project first on ``sys.path``, loaded by content."""

    def hook(path: str) -> DirectoryFinder:
        absolute = os.path.abspath(path)
        if not layout.owns(absolute):
            raise ImportError(f"{path} is not of the project")
        return DirectoryFinder(absolute, layout)

    first = [layout.directory, layout.project]
    sys.path[:] = [*first, *(path for path in sys.path if path not in ("", *first))]
    sys.path_hooks.insert(0, hook)
    for path in [path for path in sys.path_importer_cache if layout.owns(path)]:
        del sys.path_importer_cache[path]


def load_entry(layout: Layout, entry: str) -> ModuleType:
    """Import the entry file as the module ``main``. Raises whatever its code raises."""
    path = f"{layout.directory}/{entry}"
    spec = spec_from_file_location(ENTRY_MODULE, path, loader=ContentLoader(ENTRY_MODULE, path, layout))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[ENTRY_MODULE] = module
    spec.loader.exec_module(module)
    return module


def foreign_modules() -> list[str]:
    """Return the modules of installed packages and the standard library that the page imported, in order.

    What lies anywhere else may be somebody's work in progress, and is never held by a zygote.
    """
    # From the end: to look at one that the zygote imported would copy the memory that both share.
    names = list(itertools.takewhile(lambda name: name != ENTRY_MODULE, reversed(sys.modules)))
    return [name for name in reversed(names) if _is_foreign(name)]


def _is_foreign(name: str) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None or spec.name != name or not spec.has_location or name.partition(".")[0] == "tqserver":
        return False
    return isinstance(spec.origin, str) and _is_installed(spec.origin)


def _is_below(path: str, top: str) -> bool:
    return path.startswith(top) and path[len(top) : len(top) + 1] in ("", os.sep)


def _is_installed(path: str) -> bool:
    return path.startswith(_LIBRARIES) or not set(_PACKAGE_DIRECTORIES).isdisjoint(path.split(os.sep))
