"""``/metrics``: on the admin socket and on a port of its own; what grows never goes back."""

from __future__ import annotations

import os
import signal
import socket

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.system import cli, client, sources
from tests.system.harness import Server, free_port, wait_until
from tests.system.test_upgrade import Heir, hand_over, heirs
from tqserver.host.rundir import admin_socket
from tqserver.host.sockets import connect_unix

__all__ = ["heirs"]  # a fixture

BROKEN = "def get(:\n"
Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Every sample: its name and the values of its labels, in the order of their names."""
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def scrape(server: Server) -> Samples:
    """Ask on the admin socket."""
    with connect_unix(admin_socket(server.root)) as sock:
        sock.settimeout(client.TIMEOUT_SECONDS)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while part := sock.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    assert b"content-type: text/plain; version=" in head
    return samples(body.decode())


def wait_sample(server: Server, *key: str, value: float) -> Samples:
    """Ask until a sample has this value."""
    last: list[Samples] = []

    def has() -> bool:
        last[:] = [scrape(server)]
        return last[0].get(key) == value

    wait_until(has, lambda: f"{key} to be {value}: {last[0].get(key)}\n{server.tail()}")
    return last[0]


def with_port(server: Server, metrics: str) -> None:
    server.configure(f"server:\n  port: {server.port}\n  log_file: logs/server.log\n  metrics: {metrics}\n")


@pytest.fixture
def site(server: Server) -> Server:
    server.page("index", sources.plain("hello"))
    server.page("users/[id]", sources.plain("user"))
    return server


def test_requests_are_counted_by_route(site: Server) -> None:
    site.start()
    site.wait_body("/users/7", "user")
    for _ in range(3):
        assert site.get("/").status == 200
    assert site.get("/", "POST").status == 405
    found = wait_sample(site, "tqserver_requests_total", "4xx", "/", value=1)
    assert found["tqserver_requests_total", "2xx", "/"] == 3
    assert found["tqserver_requests_total", "2xx", "/users/[id]"] >= 1
    assert found["tqserver_request_duration_seconds_count", "/"] == 4
    assert found["tqserver_request_duration_seconds_bucket", "+Inf", "/"] == 4
    assert found["tqserver_reloads_total", "live", "/"] == 1
    assert found["tqserver_reload_duration_seconds_count", "/"] == 1
    assert found["tqserver_workers", "/", "ready"] == 1
    assert found["tqserver_worker_memory_bytes", "/"] > 1e6
    assert found["tqserver_process_cpu_seconds_total", "control"] > 0
    assert found["tqserver_process_resident_memory_bytes", "proxy-0"] > 1e6


def test_what_grows_does_not_go_back_with_a_proxy(site: Server) -> None:
    """kill -9, again and again, under requests: no counter of what was served is lower than before."""
    site.expect_errors("proxy.exited")
    site.start()
    site.wait_live("index")
    before: Samples = {}
    for deaths in range(1, 4):
        for _ in range(20):
            assert site.get("/").status == 200
        wait_sample(site, "tqserver_requests_total", "2xx", "/", value=20 * deaths)
        pid, since = site.proxy_pid(), site.mark()
        os.kill(pid, signal.SIGKILL)
        site.wait_log("proxy.exited", since, pid=pid)
        after = scrape(site)
        assert after["tqserver_proxy_restarts_total",] == deaths
        assert after["tqserver_requests_in_flight", "/"] == 0
        for key, value in before.items():
            grows = key[0].endswith(("_total", "_bucket", "_count", "_sum")) and "_process_" not in key[0]
            assert not grows or after[key] >= value, key
        before = after


def test_failures_and_deaths_show(site: Server) -> None:
    site.expect_errors("page.failed", "build.failed", "worker.exited")
    site.start()
    site.wait_live("index")
    site.edit("pages/index/main.py", BROKEN)
    found = wait_sample(site, "tqserver_reloads_total", "failed", "/", value=1)
    assert found["tqserver_page_failing", "/"] == 1
    assert found["tqserver_page_failing", "/users/[id]"] == 0
    os.kill(site.worker_pid("users/[id]"), signal.SIGKILL)
    wait_sample(site, "tqserver_worker_restarts_total", "died", "/users/[id]", value=1)


def test_a_recycled_worker_is_counted_by_its_reason(site: Server) -> None:
    site.configure("workers:\n  default:\n    max_requests: 10\n")
    site.start()
    site.wait_live("index")
    for _ in range(20):
        site.get("/")
    wait_sample(site, "tqserver_worker_restarts_total", "max_requests", "/", value=1)


def test_series_of_a_page_that_is_gone_are_gone(site: Server) -> None:
    site.start()
    site.wait_body("/users/7", "user")
    wait_sample(site, "tqserver_requests_total", "2xx", "/users/[id]", value=1)
    (site.root / "pages/users/[id]/main.py").unlink()
    (site.root / "pages/users/[id]").rmdir()
    (site.root / "pages/users").rmdir()
    site.wait_log("page.gone", page="users/[id]")
    assert not [key for key in scrape(site) if "/users/[id]" in key]


def test_status_shows_the_latency_of_the_last_minute(site: Server) -> None:
    site.start()
    site.wait_body("/", "hello")

    def latency() -> tuple[float, float] | None:
        pages = cli.run(site.root, "status", "--json").document["pages"]
        traffic = {page["name"]: page for page in pages}["index"]["traffic"]
        return (traffic["p50_seconds"], traffic["p99_seconds"]) if traffic and traffic["p50_seconds"] else None

    p50, p99 = wait_until(latency, site.tail)  # type: ignore[misc]
    assert 0 < p50 <= p99 < 30


# --- a port of its own --------------------------------------------------------------------------------------


def test_a_port_that_has_nothing_else(site: Server) -> None:
    port = free_port()
    with_port(site, str(port))
    site.start()
    assert site.wait_log("metrics.ready")["url"] == f"http://127.0.0.1:{port}/metrics"
    answer = client.fetch(port, "/metrics", "GET", None, {})
    assert answer.status == 200
    assert samples(answer.text)["tqserver_pages",] == 2
    head = client.fetch(port, "/metrics", "HEAD", None, {})
    assert (head.status, head.body) == (200, b"")
    assert client.fetch(port, "/metrics", "POST", b"x", {}).status == 405
    for path in ("/", "/v1/status", "/v1/reload", "/metrics/x"):
        assert client.fetch(port, path, "GET", None, {}).status == 404
    assert client.fetch(port, "/v1/reload", "POST", b"", {}).status == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:9", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_on_loopback_it_is_asked_by_a_name_of_this_machine(site: Server, host: str, status: int) -> None:
    """Else any website could read it, by a name of its own that points here (pitfall 30)."""
    port = free_port()
    with_port(site, str(port))
    site.start()
    site.wait_log("metrics.ready")
    assert client.fetch(port, "/metrics", "GET", None, {"Host": host}).status == status


def test_a_port_that_is_in_use(site: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with_port(site, f"127.0.0.1:{port}")
        site.launch()
        assert site.wait_exit() == 4
    assert f"config/server.yaml:4:12: cannot listen on 127.0.0.1:{port}: Address already in use" in site.terminal
    assert "or set server.metrics in the configuration, or TQSERVER_SERVER__METRICS" in site.terminal


def test_the_setting_is_followed(site: Server) -> None:
    """Set, moved, refused and removed while the server runs."""
    site.expect_errors("config.invalid")
    site.start()
    first, second = free_port(), free_port()
    with_port(site, str(first))
    site.wait_log("metrics.ready", url=f"http://127.0.0.1:{first}/metrics")
    with_port(site, f"localhost:{second}")
    site.wait_log("metrics.ready", url=f"http://127.0.0.1:{second}/metrics")
    wait_until(lambda: not is_open(first), "the first port to be closed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with_port(site, str(taken.getsockname()[1]))
        assert "config/server.yaml:4:12: cannot listen on" in site.wait_log("config.invalid")["error"]
    text = client.fetch(second, "/metrics", "GET", None, {}).text
    assert samples(text)["tqserver_config_last_reload_successful",] == 0
    since = site.mark()
    site.configure()
    site.wait_log("config.applied", since)
    wait_until(lambda: not is_open(second), "the second port to be closed")


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_takes_over_has_the_port(site: Server, heirs: list[Heir]) -> None:
    port = free_port()
    with_port(site, str(port))
    site.start()
    site.wait_log("metrics.ready")
    pid = hand_over(site, heirs)
    found = samples(client.fetch(port, "/metrics", "GET", None, {}).text)
    started = psutil.Process(pid).create_time()
    assert found["tqserver_process_start_time_seconds", "control"] == pytest.approx(started, abs=0.01)
    heirs.pop().stop()
    wait_until(lambda: not is_open(port), "the port to be closed")
