"""config/server.yaml: strict, overridable, and followed while the server runs."""

from __future__ import annotations

import pytest

from tests.system import sources
from tests.system.harness import Server

SHOWS = (
    "import os\n\n"
    "NAMES = ('GREETING', 'READ_TIMEOUT_SECONDS', 'GOMAXPROCS', 'ROUTE', 'TQ_PAGE', 'TQ_MODE')\n\n"
    "def get():\n    return {name: os.environ.get(name) for name in NAMES}\n"
)


def shown(server: Server, path: str) -> dict[str, str]:
    import json

    answer = server.get(path)
    assert answer.status == 200, answer
    found: dict[str, str] = json.loads(answer.body)
    return found


def test_an_unknown_key(server: Server) -> None:
    server.configure(f"server:\n  port: {server.port}\n  prot: 1\n")
    server.launch()
    assert server.wait_exit() == 3
    assert "config/server.yaml:3:3" in server.terminal
    assert "prot" in server.terminal
    assert "port" in server.terminal.replace("prot", "")
    assert "Traceback" not in server.terminal


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server:\n  port: high\n", "server.yaml:2:9"),
        ("server:\n  port: 70000\n", "server.yaml:2:9"),
        ("server: [\n", "server.yaml"),
        ("server:\n  port: 1\n  port: 2\n", "server.yaml:3:3"),
        ("workers:\n  paths:\n    api: {}\nserver: {}\n", "server.yaml:3:5"),
    ],
)
def test_a_wrong_value(server: Server, text: str, says: str) -> None:
    server.configure(text)
    server.launch()
    assert server.wait_exit() == 3
    assert says in server.terminal
    assert "Traceback" not in server.terminal


def test_a_missing_file_means_defaults(server: Server) -> None:
    (server.root / "config/server.yaml").unlink()
    server.page("index", sources.plain("ok"))
    server.launch(env={"TQSERVER_SERVER__PORT": str(server.port), "TQSERVER_SERVER__LOG_FILE": "logs/server.log"})
    server.wait_log("server.ready")
    server.wait_body("/", "ok")


def test_a_named_file_that_is_missing(server: Server) -> None:
    server.launch("-config", "config/other.yaml")
    assert server.wait_exit() == 3
    assert "config/other.yaml" in server.terminal


def test_the_environment_overrides(server: Server) -> None:
    server.configure("mode: prod\n")
    server.page("shows", SHOWS)
    server.start(env={"TQSERVER_MODE": "dev", "TQSERVER_WORKERS__DEFAULT__READ_TIMEOUT_SECONDS": "7"})
    server.wait_live("shows")
    found = shown(server, "/shows")
    assert (found["TQ_MODE"], found["READ_TIMEOUT_SECONDS"]) == ("dev", "7")


def test_settings_of_a_path(server: Server) -> None:
    """Exact, then the longest whole-segment prefix, then the default; a path overrides only what it names."""
    server.configure(
        "workers:\n  default:\n    gomaxprocs: 2\n    env: {GREETING: default}\n  paths:\n"
        '    "/api":\n      env: {GREETING: api}\n    "/api/users":\n      env: {GREETING: users}\n'
    )
    for name in ("api", "api/users", "api/other", "apix"):
        server.page(name, SHOWS)
    server.start()
    for name, greeting in {"api": "api", "api/users": "users", "api/other": "api", "apix": "default"}.items():
        server.wait_live(name)
        found = shown(server, f"/{name}")
        assert (found["GREETING"], found["GOMAXPROCS"], found["TQ_PAGE"]) == (greeting, "2", name)
        assert found["ROUTE"] == f"/{name}"


def test_a_configuration_of_the_original(server: Server) -> None:
    server.configure(
        f"server:\n  port: {server.port}\n  read_timeout_seconds: 60\n  write_timeout_seconds: 60\n"
        "  idle_timeout_seconds: 120\n  log_file: logs/server.log\n"
        "workers:\n  port_range_start: 19000\n  port_range_end: 19999\n  startup_delay_ms: 10\n"
        "  restart_delay_ms: 10\n  shutdown_grace_period_ms: 500\n  default:\n    go_max_procs: 2\n"
        "    max_requests: 0\n    read_timeout_seconds: 30\n    write_timeout_seconds: 30\n"
        '    idle_timeout_seconds: 120\n    go_mem_limit: "256MiB"\n    log_file: logs/{path}_{date}.log\n'
        '  paths:\n    "/shows":\n      go_max_procs: 4\n'
        "file_watcher:\n  debounce_ms: 50\npages:\n  directory: pages\n"
    )
    server.page("shows", SHOWS)
    server.start()
    server.wait_live("shows")
    assert shown(server, "/shows")["GOMAXPROCS"] == "4"


def test_prod_keeps_errors_to_itself(server: Server) -> None:
    server.expect_errors("page.failed")
    server.configure("mode: prod\n")
    server.page("broken", "raise RuntimeError('internal secret')\n")
    server.page("raises", "def get():\n    raise RuntimeError('internal secret')\n")
    server.start()
    server.wait_log("page.failed", page="broken")
    server.wait_live("raises")
    for path, status in {"/broken": 503, "/raises": 500}.items():
        answer = server.get(path)
        assert answer.status == status
        assert "secret" not in answer.text
