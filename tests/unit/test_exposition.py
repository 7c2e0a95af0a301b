"""What was measured, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tqserver.control.events import PageHistory
from tqserver.control.exposition import render
from tqserver.control.load import Answers
from tqserver.control.metrics import Measured, Reading
from tqserver.host.usage import Usage
from tqserver.model.latency import BOUNDS
from tqserver.model.status import FailureStatus, PageStatus, ServerStatus, Status, TrafficStatus, WorkerStatus

SERVER = ServerStatus(
    7, "0.1.0", "prod", "http://127.0.0.1:8080", "/site", "config/server.yaml", "", 185.0, 43_000_000, "inotify", 3, 9
)
WORKERS = [WorkerStatus(n, 70 + n, 2, state, "", 35_000_000, 4.0) for n, state in enumerate(("ready", "draining"))]
LIVE = PageStatus("users", "/users", "python", "live", 2, "ab", WORKERS, TrafficStatus(9, 1, 3, 2, 4.2))
BROKEN = PageStatus("x", "/x", "python", "broken", failure=FailureStatus("no"))
ANSWERS = Answers((1, 0, 5, 0, 1, 2), (0,) * 3 + (8,) + (0,) * 12 + (1,), 75.5, 1)


def reading(*pages: Measured, **more: Any) -> Reading:
    known: dict[str, Any] = {
        "status": Status(SERVER, [], [each.page for each in pages]),
        "pages": {each.page.route: each for each in pages},
        "unrouted": Answers((0, 0, 0, 0, 4, 0)),
        "connections": 6,
        "proxy_deaths": 1,
        "config_invalid": False,
        "processes": {"control": Usage(1.5, 40_000_000, 20, 1_790_000_000.0)},
    }
    return Reading(**known | more)


def measured(page: PageStatus = LIVE, answers: Answers = ANSWERS, **history: Any) -> Measured:
    return Measured(page, answers, PageHistory(**history))


def samples(of: Reading) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels, in the order of their names."""
    found: dict[tuple[str, ...], float] = {}
    for family in parse(render(of, "")[0].decode()):
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def test_requests_by_the_class_of_their_status() -> None:
    found = samples(reading(measured()))
    codes = {key[1]: value for key, value in found.items() if key[0] == "tqserver_requests_total"}
    assert codes == {"none": 1, "1xx": 0, "2xx": 5, "3xx": 0, "4xx": 1, "5xx": 2}
    assert found["tqserver_unrouted_requests_total", "4xx"] == 4
    assert found["tqserver_request_failures_total", "/users"] == 1
    assert found["tqserver_responses_cut_total", "/users"] == 1


def test_a_histogram_adds_up() -> None:
    found = samples(reading(measured()))
    name = "tqserver_request_duration_seconds"
    buckets = [found[f"{name}_bucket", str(bound), "/users"] for bound in BOUNDS]
    assert buckets == [0.0] * 3 + [8.0] * 13
    assert found[f"{name}_bucket", "+Inf", "/users"] == found[f"{name}_count", "/users"] == 9
    assert found[f"{name}_sum", "/users"] == 75.5


def test_what_is_in_flight() -> None:
    found = samples(reading(measured()))
    assert found["tqserver_requests_in_flight", "/users"] == 3
    assert found["tqserver_requests_waiting", "/users"] == 2
    assert found["tqserver_client_connections",] == 6


def test_a_page_and_its_workers() -> None:
    found = samples(reading(measured(), measured(BROKEN, Answers())))
    assert (found["tqserver_page_failing", "/users"], found["tqserver_page_failing", "/x"]) == (0, 1)
    assert found["tqserver_page_revision", "/users"] == 2
    assert found["tqserver_workers", "/users", "ready"] == found["tqserver_workers", "/users", "draining"] == 1
    assert found["tqserver_workers", "/x", "ready"] == 0
    assert found["tqserver_worker_memory_bytes", "/users"] == 70_000_000


def test_what_events_add_up_to() -> None:
    history = PageHistory(replaced=Counter(died=2), builds=Counter(reused=1), reloads=Counter(failed=3))
    history.went_live(0.025)
    found = samples(reading(Measured(LIVE, ANSWERS, history)))
    assert found["tqserver_worker_restarts_total", "died", "/users"] == 2
    assert found["tqserver_worker_restarts_total", "memory_limit", "/users"] == 0
    assert found["tqserver_reloads_total", "failed", "/users"] == 3
    assert found["tqserver_reloads_total", "live", "/users"] == 1
    assert found["tqserver_builds_total", "reused", "/users"] == 1
    assert found["tqserver_reload_duration_seconds_bucket", "0.02", "/users"] == 0
    assert found["tqserver_reload_duration_seconds_bucket", "0.05", "/users"] == 1


def test_a_page_that_nobody_asked_has_counters_and_no_durations() -> None:
    found = samples(reading(measured(BROKEN, Answers())))
    assert found["tqserver_requests_total", "5xx", "/x"] == 0
    assert not [key for key in found if key[0].startswith("tqserver_request_duration")]


def test_the_server() -> None:
    found = samples(reading(config_invalid=True))
    (build,) = [key for key in found if key[0] == "tqserver_build_info"]
    assert build[1] == "prod"
    assert "0.1.0" in build
    assert found["tqserver_config_last_reload_successful",] == 0
    assert found["tqserver_proxy_restarts_total",] == 1
    assert found["tqserver_process_cpu_seconds_total", "control"] == 1.5


@pytest.mark.parametrize(
    ("accept", "media_type", "read"),
    [
        ("", "text/plain; version=0.0.4", parse),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept: str, media_type: str, read: Any) -> None:
    text, said = render(reading(measured()), accept)
    assert said.startswith(media_type)
    names = {family.name for family in read(text.decode())}
    assert {"tqserver_requests", "tqserver_build"} <= {name.removesuffix("_info") for name in names}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_of_a_page_breaks_the_text(name: str) -> None:
    page = PageStatus(name, "/" + name, "python", "live", 1)
    found = samples(reading(Measured(page, ANSWERS, PageHistory()), measured()))
    assert found["tqserver_requests_total", "2xx", "/" + name] == 5
    assert found["tqserver_page_revision", "/users"] == 2
