"""Which directories are pages, and what is wrong with those that cannot be.

The scan never follows a symlink back into its own path, never raises for one bad directory, and returns a
problem for each: what is live stays live.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqserver.build.files import DEEPEST, leads_astray
from tqserver.build.registry import detect
from tqserver.model.errors import HostError, Location, PageError, RouteConflict
from tqserver.model.pages import PUBLIC, Page, is_hidden
from tqserver.model.routing import Pattern, conflicts
from tqserver.model.text import one_line

MOST_LINKED = 1000  # directories that one symbolic link leads to
_NEVER_PAGES = frozenset({PUBLIC, "node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Problem:
    """A page, by its name, that cannot be served as found. ``is_unfinished``: somebody may be about to make it."""

    page: str
    error: PageError
    is_unfinished: bool = False


@dataclass(slots=True)
class Discovery:
    """What a scan found: pages by name, problems, and the real directories to watch."""

    pages: dict[str, Page] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def discover(root: Path) -> Discovery:
    """Scan the pages directory. Raises :class:`HostError` if it is missing or cannot be read."""
    if not root.is_dir():
        raise HostError(
            f"the pages directory {root} is missing",
            remedy="change to the project's directory, begin one here (tqserver new, or mkdir -p pages/index), "
            "or set pages.directory in the configuration",
        )
    found = Discovery()
    _Scan(root, found).directory(root, (), frozenset())
    _nest(found)
    _refuse_conflicts(found)
    return found


class _TooMany(Exception):
    """A symbolic link leads to more directories than anybody means."""


class _Scan:
    """One walk over the tree."""

    def __init__(self, root: Path, found: Discovery) -> None:
        self._root = root
        self._found = found
        self._left: int | None = None  # directories that a link may still lead to, within one

    def directory(self, path: Path, segments: tuple[str, ...], above: frozenset[str]) -> bool:
        """Scan a directory and those below; tell whether a page is among them."""
        name = "/".join(segments)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise _TooMany
        try:
            real = os.path.realpath(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            self._problem(
                name,
                PageError(
                    f"cannot read the directory: {error.strerror}",
                    remedy="make it readable for the user that runs tqserver, or rename it to begin with _",
                    location=Location(str(path)),
                ),
            )
            return True
        if wrong := self._without_end(real, segments, above):
            message, remedy = wrong
            self._problem(name, PageError(message, remedy=remedy, location=Location(str(path))))
            return True
        is_page = bool(segments) and self._page(path, name, entries)
        has_pages = False
        for entry in entries:
            if self._is_candidate(entry, name):
                follow = self._linked if entry.is_symlink() else self.directory
                has_pages |= follow(path / entry.name, (*segments, entry.name), above | {real})
        if segments and not entries:
            self._problem(
                name,
                PageError(
                    "the page directory is empty",
                    remedy="add an entry file such as main.py, or remove the directory",
                    location=Location(str(path)),
                ),
                is_unfinished=True,
            )
        return is_page or has_pages

    def _without_end(self, real: str, segments: tuple[str, ...], above: frozenset[str]) -> tuple[str, str] | None:
        """Return what is wrong with a directory, and the remedy, if what is below it has no end."""
        if real in above:
            return "the symbolic link leads back to a directory above it", "remove the link"
        if len(segments) > DEEPEST:
            return f"directories are nested more than {DEEPEST} deep", "nest them less, or remove them"
        return None

    def _linked(self, path: Path, segments: tuple[str, ...], above: frozenset[str]) -> bool:
        """Scan what a symbolic link leads to, if it is not half the machine: what else is there is scanned anyway."""
        name, link = "/".join(segments), Location(str(path))
        if wrong := leads_astray(str(path)):
            self._problem(name, PageError(wrong, remedy="remove the link", location=link))
            return True
        if self._left is not None:  # within another link, whose bound holds
            return self.directory(path, segments, above)
        self._left = MOST_LINKED
        try:
            return self.directory(path, segments, above)
        except _TooMany:
            self._forget_below(name)
            message = f"the symbolic link leads to more than {MOST_LINKED} directories, each of which might be a page"
            remedy = "remove it, or let its name begin with _ if there are no pages in it"
            self._problem(name, PageError(message, remedy=remedy, location=link))
            return True
        finally:
            self._left = None

    def _forget_below(self, name: str) -> None:
        below = [page for page in self._found.pages if page == name or page.startswith(name + "/")]
        for page in below:
            del self._found.pages[page]
        self._found.problems[:] = [each for each in self._found.problems if not each.page.startswith(name + "/")]

    def _is_candidate(self, entry: os.DirEntry[str], above: str) -> bool:
        if is_hidden(entry.name) or entry.name in _NEVER_PAGES:
            return False
        try:
            if not entry.is_dir():
                return False
        except OSError as error:  # a link that leads to itself (ELOOP)
            self._problem(
                f"{above}/{entry.name}".lstrip("/"),
                PageError(
                    f"cannot follow the symbolic link: {error.strerror}",
                    remedy="remove the link",
                    location=Location(entry.path),
                ),
            )
            return False
        return self._has_valid_name(entry, above)

    def _has_valid_name(self, entry: os.DirEntry[str], above: str) -> bool:
        shown = one_line(os.fsencode(entry.name).decode("utf-8", "backslashreplace"))
        if shown == entry.name:
            return True
        try:
            entry.name.encode("utf-8")
            wrong = f"the directory name {shown} has control characters"
        except UnicodeEncodeError:
            wrong = f"the directory name {shown!r} is not valid UTF-8, so no URL can name it"
        location = Location(f"{Path(entry.path).parent}/{shown}")
        self._problem(f"{above}/{shown}".lstrip("/"), PageError(wrong, remedy="rename it", location=location))
        return False

    def _page(self, path: Path, name: str, entries: list[os.DirEntry[str]]) -> bool:
        try:
            detected = detect(path)
            if detected is None:
                return False
            runtime, entry = detected
            Pattern.parse(Page(name, str(path), runtime.name, entry).route)
        except PageError as error:
            self._problem(name, error)
            return True
        has_public = any(found.name == PUBLIC and (found.is_symlink() or found.is_dir()) for found in entries)
        self._found.pages[name] = Page(name, str(path), runtime.name, entry, has_public=has_public)
        return True

    def _problem(self, page: str, error: PageError, *, is_unfinished: bool = False) -> None:
        self._found.problems.append(Problem(page, error, is_unfinished))


def _nest(found: Discovery) -> None:
    """Tell each page which directories below it are pages of their own."""
    for name, page in list(found.pages.items()):
        prefix = name + "/"
        nested = tuple(sorted(other[len(prefix) :] for other in found.pages if other.startswith(prefix)))
        if nested:
            found.pages[name] = replace(page, nested=nested)


def _refuse_conflicts(found: Discovery) -> None:
    for conflict in conflicts(found.pages.values()):
        names = [page.name for page in conflict.pages]
        for page in conflict.pages:
            others = " and ".join(f"pages/{name}" for name in names if name != page.name)
            found.problems.append(
                Problem(
                    page.name,
                    RouteConflict(
                        f"pages/{page.name} and {others} both answer {page.route}",
                        remedy="rename or remove one of them; until then what was live stays live",
                        location=Location(page.directory),
                    ),
                )
            )
