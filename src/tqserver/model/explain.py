"""Why a page answers a URL: the rules of :mod:`tqserver.model.routing`, told for one path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from tqserver.model.pages import Page
from tqserver.model.routing import Match, Pattern, RouteTable, SegmentKind, normalise
from tqserver.model.status import Candidate, Explanation

_KINDS = {
    SegmentKind.STATIC: "a name",
    SegmentKind.PARAMETER: "any one segment",
    SegmentKind.REST: "all that is left",
}


def by_precedence(pages: Iterable[Page]) -> list[Page]:
    """Return pages in the order in which their patterns win, the strongest first."""
    return sorted(pages, key=lambda page: _order(Pattern.parse(page.route)))


def explain(url: str, pages: Iterable[Page]) -> Explanation:
    """Return which of the pages answers a URL or path, and why the others do not. Their routes must not conflict."""
    url = url.replace(" ", "%20")  # as every client sends it
    path = normalise(_path_of(url))
    if path is None:
        return Explanation(url, "", reason="no path that a page could be asked for: refused with 400")
    matches = [(page, RouteTable([(Pattern.parse(page.route), page)]).match(path)) for page in by_precedence(pages)]
    best = next(((page, match) for page, match in matches if match is not None), None)
    candidates = [_rival(page, match.pattern, best) for page, match in matches if match is not None]
    candidates += [_misfit(page, path) for page, match in matches if match is None and _begins_alike(page, path)]
    if best is None:
        return Explanation(url, path, reason="no page matches it, and there is no pages/index", candidates=candidates)
    page, match = best
    reason = _winner(match.pattern, path)
    return Explanation(url, path, page.name, page.route, match.params, reason, candidates)


def _path_of(url: str) -> str:
    """Return the path of "http://host/path?query", "/path?query" or "path"."""
    split = urlsplit(url) if "://" in url else urlsplit("//-/" + url.lstrip("/"))
    return split.path or "/"


def _order(pattern: Pattern) -> tuple[tuple[int, str], ...]:
    """Ranks compared from the left, the highest first; the end of a pattern ranks below any segment."""
    return (*((-segment.kind, segment.text) for segment in pattern.segments), (0, ""))


def _rival(page: Page, pattern: Pattern, best: tuple[Page, Match[Page]] | None) -> Candidate:
    assert best is not None
    if page is best[0]:
        return Candidate(page.route, page.name, True, "the strongest that matches")
    return Candidate(page.route, page.name, False, f"matches, but {_loss(pattern, best[1].pattern)}")


def _misfit(page: Page, path: str) -> Candidate:
    return Candidate(page.route, page.name, False, f"does not match: {_mismatch(Pattern.parse(page.route), path)}")


def _begins_alike(page: Page, path: str) -> bool:
    """Whether the first segment is the same: only then will somebody ask why it does not answer."""
    return page.route.split("/")[1] in _segments(path)[:1]


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _winner(pattern: Pattern, path: str) -> str:
    below = _segments(path)[len(pattern.segments) :]
    is_rest = bool(pattern.segments) and pattern.segments[-1].kind is SegmentKind.REST
    if not pattern.segments and below:
        return "pages/index answers what nothing else does"
    if below and not is_rest:
        return f"a page answers all below it: /{'/'.join(below)} is left to it"
    return "it matches the whole path"


def _mismatch(pattern: Pattern, path: str) -> str:
    have: Sequence[str] = _segments(path)
    for place, segment in enumerate(pattern.segments):
        if place >= len(have):
            return f"the path ends before segment {place + 1}"
        if segment.kind is SegmentKind.STATIC and segment.text != have[place]:
            return f"segment {place + 1} is {have[place]!r}, not {segment.text!r}"
    raise AssertionError(f"{pattern} matches {path}")


def _loss(loser: Pattern, winner: Pattern) -> str:
    """Say where the winner is stronger: at the first segment whose kinds differ, or by having more of them."""
    for place, (mine, other) in enumerate(zip(loser.segments, winner.segments, strict=False), 1):
        if mine.kind is not other.kind:
            return f"{winner} is stricter: its segment {place} is {_KINDS[other.kind]}, here {_KINDS[mine.kind]}"
    return f"{winner} has more segments"
