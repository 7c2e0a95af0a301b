"""The table of ``tqserver status``, and its documents between versions."""

from __future__ import annotations

import dataclasses
import json

from tqserver.cli.commands.status import headline, table_of, troubles
from tqserver.model.status import (
    FailureStatus,
    PageStatus,
    ProxyStatus,
    ServerStatus,
    Status,
    TrafficStatus,
    WorkerStatus,
)
from tqserver.wire.codec import document_from_json, to_json

SERVER = ServerStatus(
    7, "0.1.0", "dev", "http://127.0.0.1:8080", "/site", "config/server.yaml", "", 185.0, 43_000_000, "inotify", 3, 9
)
WORKER = WorkerStatus(1, 70, 2, "ready", "unix:/w1.sock", 35_000_000, 4.0)
LIVE = PageStatus("users", "/users", "python", "live", 2, "ab", [WORKER], last_reload_seconds=0.026)
STALE = PageStatus(
    "go", "/go", "go", "stale", 1, "cd", failure=FailureStatus("no", "/site/pages/go/main.go:3", "mend it")
)
BROKEN = PageStatus("x", "/x", "python", "broken", failure=FailureStatus("no"))


def status(*pages: PageStatus) -> Status:
    return Status(SERVER, [ProxyStatus("proxy-0", 8, 1, 1.0, 3)], list(pages))


def rows(*pages: PageStatus) -> list[dict[str, str]]:
    columns, found = table_of(status(*pages))
    return [{column.title: cell.text for column, cell in zip(columns, row, strict=True)} for row in found]


def test_a_page_in_the_table() -> None:
    assert rows(LIVE) == [
        {
            "ROUTE": "/users",
            "STATE": "live",
            "REV": "2",
            "WORKERS": "1",
            "MEMORY": "35 MB",
            "RESTARTS": "",
            "RELOAD": "26 ms",
            "RUNTIME": "python",
        }
    ]


def test_pages_are_in_the_order_of_their_routes() -> None:
    assert [row["ROUTE"] for row in rows(BROKEN, LIVE, STALE)] == ["/go", "/users", "/x"]


def test_workers_that_are_not_ready() -> None:
    starting = dataclasses.replace(WORKER, state="starting")
    assert rows(dataclasses.replace(LIVE, workers=[WORKER, starting]))[0]["WORKERS"] == "1 of 2"


def test_traffic_has_columns_once_it_is_counted() -> None:
    counted = dataclasses.replace(LIVE, traffic=TrafficStatus(1200, 0, 3, 1, 4.25, 0.0004, 1.25))
    row = rows(counted, BROKEN)[0]
    assert (row["REQUESTS"], row["REQ/S"], row["IN FLIGHT"], row["WAITING"]) == ("1200", "4.2", "3", "1")
    assert (row["P50"], row["P99"]) == ("0.4 ms", "1.2 s")
    assert "REQUESTS" not in rows(LIVE)[0]


def test_latency_of_a_page_that_nobody_asked_lately_is_not_known() -> None:
    row = rows(dataclasses.replace(LIVE, traffic=TrafficStatus(1200, 0, 0, 0, 0.0)))[0]
    assert (row["P50"], row["P99"]) == ("", "")


def test_what_is_wrong() -> None:
    died = dataclasses.replace(LIVE, restarts=2, last_exit="killed by SIGKILL")
    lines = ["".join(cell.text for cell in line) for line in troubles(status(LIVE, STALE, BROKEN, died))]
    assert lines == [
        "✗ /go  pages/go/main.go:3: no (revision 1 serves on)",
        "    mend it",
        "✗ /x  no",
        "! /users  a worker died 2 times, the last: killed by SIGKILL",
    ]


def test_the_headline() -> None:
    assert headline(status()) == "http://127.0.0.1:8080  dev  up 3 min 5 s  pid 7, 1 proxy  43 MB"
    polling = dataclasses.replace(SERVER, watcher="polling")
    assert "polls for changes" in headline(Status(polling, [], []))


def test_a_document_of_a_newer_server_is_read() -> None:
    newer = json.loads(to_json(status(LIVE, STALE)))
    newer["later"] = newer["server"]["later"] = 1
    assert document_from_json(json.dumps(newer), Status) == status(LIVE, STALE)
    assert newer["version"] == 1
