"""What was measured, in the text formats of Prometheus and OpenMetrics; ``docs/metrics.md`` explains each family.

Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for what only grows. Series are
bounded by the pages there are: a label is a route, or a word of a closed set. What can be counted is there from the
start, as 0, so that the first failure is an increase; only durations begin with the first answer.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tqserver.control.events import RELOAD_BOUNDS
from tqserver.control.metrics import Measured, Reading
from tqserver.model.latency import BOUNDS
from tqserver.model.lifecycle import Cause, WorkerState

_CODES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")  # by the first digit of a status
_STATES = (WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING, WorkerState.STOPPING)


def render(reading: Reading, accept: str) -> tuple[bytes, str]:
    """Return the text, in the format that an Accept field prefers, and its media type."""
    encode, media_type = choose_encoder(accept)
    return encode(_Families(reading)), media_type


class _Families(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        """Yield every family (prometheus_client)."""
        yield from _of_requests(self._reading)
        yield from _of_pages(self._reading)
        yield from _of_events(self._reading)
        yield from _of_server(self._reading)
        yield from _of_processes(self._reading)


# --- requests ---------------------------------------------------------------------------------------------


def _of_requests(reading: Reading) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "tqserver_requests", "Requests that were answered, by the class of the status.", labels=("route", "code")
    )
    durations = HistogramMetricFamily(
        "tqserver_request_duration_seconds",
        "Time from the request's head to the end of the answer; of tunnels and event streams, to its head.",
        labels=("route",),
    )
    cut = CounterMetricFamily("tqserver_responses_cut", "Answers that ended before they were whole.", labels=("route",))
    for route, measured in reading.pages.items():
        answers = measured.answers
        for code, count in zip(_CODES, answers.codes, strict=True):
            requests.add_metric((route, code), count)
        if any(answers.durations):
            durations.add_metric((route,), _cumulative(BOUNDS, answers.durations), answers.seconds)
        cut.add_metric((route,), answers.cut)
    unrouted = CounterMetricFamily(
        "tqserver_unrouted_requests", "Requests that no page answers, and what is no request.", labels=("code",)
    )
    for code, count in zip(_CODES, reading.unrouted.codes, strict=True):
        unrouted.add_metric((code,), count)
    yield from (requests, durations, cut, unrouted)
    yield from _of_traffic(reading)


def _of_traffic(reading: Reading) -> Iterator[Metric]:
    failures = CounterMetricFamily(
        "tqserver_request_failures", "Requests that a proxy itself answered with 5xx.", labels=("route",)
    )
    in_flight = GaugeMetricFamily(
        "tqserver_requests_in_flight", "Requests that are not answered yet, and what lasts.", labels=("route",)
    )
    waiting = GaugeMetricFamily(
        "tqserver_requests_waiting", "Requests that wait for a worker; they are in flight too.", labels=("route",)
    )
    for route, measured in reading.pages.items():
        traffic = measured.page.traffic
        failures.add_metric((route,), traffic.failures if traffic else 0)
        in_flight.add_metric((route,), traffic.in_flight if traffic else 0)
        waiting.add_metric((route,), traffic.waiting if traffic else 0)
    yield from (failures, in_flight, waiting)
    yield GaugeMetricFamily("tqserver_client_connections", "Open connections of clients.", reading.connections)


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return a histogram's buckets as they are exposed: each holds those below it, the last is without a bound."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets


# --- pages ------------------------------------------------------------------------------------------------


def _of_pages(reading: Reading) -> Iterator[Metric]:
    failing = GaugeMetricFamily(
        "tqserver_page_failing", "1 while what is on disk of the page fails, or nothing answers.", labels=("route",)
    )
    revision = GaugeMetricFamily(
        "tqserver_page_revision", "The revision that is live, 0 if none is.", labels=("route",)
    )
    workers = GaugeMetricFamily("tqserver_workers", "Processes that serve the page.", labels=("route", "state"))
    memory = GaugeMetricFamily(
        "tqserver_worker_memory_bytes", "Resident memory of the page's workers, in all.", labels=("route",)
    )
    for route, measured in reading.pages.items():
        page = measured.page
        failing.add_metric((route,), page.failure is not None)
        revision.add_metric((route,), page.revision)
        for state in _STATES:
            workers.add_metric((route, state.value), sum(worker.state == state.value for worker in page.workers))
        memory.add_metric((route,), sum(worker.memory_bytes for worker in page.workers))
    yield from (failing, revision, workers, memory)


# --- events -----------------------------------------------------------------------------------------------


def _of_events(reading: Reading) -> Iterator[Metric]:
    yield _counter(
        reading,
        "tqserver_worker_restarts",
        "Workers that were replaced although nothing new was to replace them.",
        ("reason", [cause.value for cause in Cause]),
        lambda measured: measured.history.replaced,
    )
    yield _counter(
        reading,
        "tqserver_reloads",
        "Attempts to bring what is on disk live.",
        ("outcome", ["live", "failed"]),
        lambda measured: measured.history.reloads,
    )
    yield _counter(
        reading,
        "tqserver_builds",
        "Artifacts that were made, or were in the store already.",
        ("result", ["built", "reused"]),
        lambda measured: measured.history.builds,
    )
    durations = HistogramMetricFamily(
        "tqserver_reload_duration_seconds",
        "Time from the read of the files to the acknowledgement of the new revision by every proxy.",
        labels=("route",),
    )
    for route, measured in reading.pages.items():
        history = measured.history
        if any(history.reload_durations):
            buckets = _cumulative(RELOAD_BOUNDS, history.reload_durations)
            durations.add_metric((route,), buckets, history.reload_seconds)
    yield durations


def _counter(
    reading: Reading,
    name: str,
    help: str,
    label: tuple[str, Sequence[str]],
    counts_of: Callable[[Measured], Mapping[str, int]],
) -> Metric:
    """Return what is counted for each route by a word of a closed set."""
    family = CounterMetricFamily(name, help, labels=("route", label[0]))
    for route, measured in reading.pages.items():
        counts = counts_of(measured)
        for word in label[1]:
            family.add_metric((route, word), counts.get(word, 0))
    return family


# --- the server -------------------------------------------------------------------------------------------


def _of_server(reading: Reading) -> Iterator[Metric]:
    server = reading.status.server
    yield InfoMetricFamily(
        "tqserver_build",
        "What runs.",
        {"version": server.version, "python": platform.python_version(), "mode": server.mode},
    )
    yield GaugeMetricFamily("tqserver_pages", "Pages, broken ones included.", len(reading.pages))
    yield GaugeMetricFamily("tqserver_proxies", "Proxies that run.", len(reading.status.proxies))
    yield CounterMetricFamily(
        "tqserver_proxy_restarts", "Proxies that ended and were not told to.", reading.proxy_deaths
    )
    yield CounterMetricFamily(
        "tqserver_watcher_missed_changes", "Changes that only the audit of the files found.", server.missed_changes
    )
    yield GaugeMetricFamily(
        "tqserver_watcher_polling", "1 if the files are polled since events do not come.", server.watcher == "polling"
    )
    yield GaugeMetricFamily(
        "tqserver_config_last_reload_successful",
        "0 while the configuration on disk is invalid, and the one before it runs on.",
        not reading.config_invalid,
    )


def _of_processes(reading: Reading) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "tqserver_process_cpu_seconds", "User and system time of a process of ours.", labels=("process",)
    )
    memory = GaugeMetricFamily(
        "tqserver_process_resident_memory_bytes", "Resident memory of a process of ours.", labels=("process",)
    )
    files = GaugeMetricFamily("tqserver_process_open_fds", "Open descriptors.", labels=("process",))
    started = GaugeMetricFamily(
        "tqserver_process_start_time_seconds", "Start of the process, since the epoch.", labels=("process",)
    )
    for name, used in reading.processes.items():
        cpu.add_metric((name,), used.cpu_seconds)
        memory.add_metric((name,), used.resident_bytes)
        files.add_metric((name,), used.open_files)
        started.add_metric((name,), used.started)
    yield from (cpu, memory, files, started)
