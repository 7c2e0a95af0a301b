"""``tqserver revisions [ROUTE]``: what can be gone back to."""

from __future__ import annotations

import click

from tqserver.cli.client import Client
from tqserver.cli.output import DIM, GOOD, STRONG, Cell, Column
from tqserver.cli.session import Session, config_option, json_option, pass_session, route_argument
from tqserver.model.status import PageRevisions, Revisions, RevisionStatus

COLUMNS = (
    Column("ROUTE"),
    Column("REV", right=True),
    Column("LIVE SINCE", drop=1),
    Column("DIGEST", drop=2),
    Column(""),
)


@click.command()
@route_argument
@config_option
@json_option
@pass_session
def command(session: Session, route: str) -> None:
    """List the last revisions.

    Those of ROUTE, or of all pages: what tqserver rollback can go back to.
    """
    found = Client(session.root).get("/v1/revisions", Revisions, route=route)
    if session.as_json:
        session.output.document(found)
        return
    pages = sorted(found.pages, key=lambda page: page.route)
    session.output.table(COLUMNS, [_row(page, revision) for page in pages for revision in page.revisions])


def _row(page: PageRevisions, revision: RevisionStatus) -> list[Cell]:
    return [
        Cell(page.route, STRONG),
        Cell(str(revision.revision), GOOD if revision.is_live else ""),
        Cell(revision.at or "?"),
        Cell(revision.digest, DIM),
        Cell(", ".join(_said(revision))),
    ]


def _said(revision: RevisionStatus) -> list[str]:
    said = ["live"] if revision.is_live else []
    if revision.brings_back:
        said.append(f"brings back {revision.brings_back}")
    return said if revision.is_kept else [*said, "its artifact is gone"]
