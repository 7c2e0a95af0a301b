"""Whatever is wrong gets a message with a remedy; nothing else stops, nothing hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system import sources
from tests.system.harness import Server, wait_until

SETTINGS = "workers:\n  default:\n    start_timeout_seconds: 1\n"
WRONG_PORT = (
    sources.go("lost")
    .replace('if socket := os.Getenv("TQ_SOCKET"); socket != "" {', "if true {")
    .replace('net.Listen("unix", socket)', 'net.Listen("tcp", "127.0.0.1:0")')
    .replace('socket := os.Getenv("TQ_SOCKET")', "true")
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A page that cannot run: its files, and what the message must name."""

    files: dict[str, str]
    says: str
    event: str = "page.failed"


BROKEN = {
    "syntax-error": Broken({"main.py": "def get(:\n"}, "main.py:1", "page.failed"),
    "raises-at-import": Broken({"main.py": 'x = 1\nraise RuntimeError("no such luck")\n'}, "no such luck"),
    "missing-module": Broken({"main.py": "import no_such_module\n"}, "no_such_module"),
    "empty": Broken({"main.py": ""}, "write the page's code into it"),
    "empty-go": Broken({"main.go": ""}, "write the page's code into it"),
    "defines-nothing": Broken({"main.py": "x = 1\n"}, "must define"),
    "exits": Broken({"main.py": "import os\nos._exit(3)\n"}, "status 3"),
    "calls-sys-exit": Broken({"main.py": "import sys\nsys.exit(4)\n"}, "4"),
    "never-ready": Broken({"main.py": "import time\ntime.sleep(3600)\n"}, "within 1 s"),
    "go-syntax-error": Broken({"main.go": "package main\n\nfunc main() {\n\tx\n}\n"}, "main.go:4", "build.failed"),
    "go-exits": Broken({"main.go": 'package main\n\nimport "os"\n\nfunc main() { os.Exit(3) }\n'}, "status 3"),
    "go-wrong-port": Broken({"main.go": WRONG_PORT}, "it listens on 127.0.0.1:"),
    "go-never-listens": Broken({"main.go": "package main\n\nfunc main() { select {} }\n"}, ""),
    "yaml-without-end": Broken({"main.py": "", "page.yaml": "[" * 100_000}, "100 levels deep"),
    "two-entries": Broken({"main.py": sources.plain("x"), "main.go": sources.go("x")}, "main.go"),
}


def assert_named(server: Server, line: dict[str, object], says: str) -> None:
    told = " ".join(str(line.get(field, "")) for field in ("error", "where", "remedy", "output"))
    assert says in told
    assert line["error"]
    assert line["remedy"] or line["output"] or line["where"], line


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_page(server: Server, kind: str) -> None:
    """It says what is wrong, to its client too; the page beside it runs; mending it brings it to life."""
    broken = BROKEN[kind]
    server.expect_errors("page.failed", "build.failed")
    server.configure(SETTINGS)
    server.page("ok", sources.plain("ok"))
    for name, text in broken.files.items():
        server.page("broken", text, name)
    server.start()
    server.wait_body("/ok", "ok")
    assert_named(server, server.wait_log(broken.event, page="broken"), broken.says)
    answer = server.get("/broken")
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert broken.says in answer.text
    for name in broken.files:
        (server.root / "pages/broken" / name).unlink()
    server.page("broken", sources.plain("mended"))
    server.wait_body("/broken", "mended")
    server.wait_body("/ok", "ok")


@pytest.mark.parametrize(
    "kind",
    [
        "syntax-error",
        "raises-at-import",
        "exits",
        "never-ready",
        "defines-nothing",
        "two-entries",
        "empty",
        "yaml-without-end",
    ],
)
def test_a_broken_save_leaves_the_last_good_one_serving(server: Server, kind: str) -> None:
    broken = BROKEN[kind]
    server.expect_errors("page.failed", "build.failed")
    server.configure(SETTINGS)
    server.page("edited", sources.plain("good"))
    server.start()
    server.wait_body("/edited", "good")
    for name, text in broken.files.items():
        server.page("edited", text, name)
    assert_named(server, server.wait_log(broken.event, page="edited"), broken.says)
    assert server.get("/edited").text == "good"
    for name in broken.files:
        if name != "main.py":
            (server.root / "pages/edited" / name).unlink()
    server.edit("pages/edited/main.py", sources.plain("mended"))
    server.wait_body("/edited", "mended")


def test_a_broken_save_of_a_go_page(server: Server) -> None:
    server.expect_errors("build.failed")
    server.page("edited", sources.go("good"), "main.go")
    server.start()
    server.wait_body("/edited", "good")
    server.edit("pages/edited/main.go", sources.go("bad").replace("io.ReadAll", "io.NoSuch"))
    failed = server.wait_log("build.failed", page="edited")
    line = 1 + sources.GO[: sources.GO.index("io.ReadAll")].count("\n")
    assert failed["where"].startswith(f"pages/edited/main.go:{line}:"), failed
    assert "undefined: io.NoSuch" in failed["error"]
    assert server.get("/edited").text == "good"
    server.edit("pages/edited/main.go", sources.go("good"))
    server.wait_log("page.restored", page="edited")
    server.edit("pages/edited/main.go", sources.go("mended"))
    server.wait_body("/edited", "mended")


def empty_directory(pages: Path) -> None:
    (pages / "bad").mkdir()


def dangling_link(pages: Path) -> None:
    (pages / "bad").mkdir()
    (pages / "bad/main.py").symlink_to("nowhere.py")


def pipe_for_a_file(pages: Path) -> None:
    """Opening it to read would hang."""
    (pages / "bad").mkdir()
    os.mkfifo(pages / "bad/main.py")


def entry_is_a_directory(pages: Path) -> None:
    (pages / "bad/main.py").mkdir(parents=True)


def link_to_itself(pages: Path) -> None:
    (pages / "bad").symlink_to(pages / "bad")


def link_to_the_directory_above(pages: Path) -> None:
    (pages / "bad").mkdir()
    (pages / "bad/up").symlink_to(pages)


def link_to_everything(pages: Path) -> None:
    (pages / "bad").symlink_to("/")


def link_to_the_kernel(pages: Path) -> None:
    (pages / "bad").symlink_to("/proc")


def link_to_half_the_machine(pages: Path) -> None:
    (pages / "bad").symlink_to("/usr")


def name_is_not_utf8(pages: Path) -> None:
    directory = os.fsencode(pages) + b"/bad\xff"
    os.mkdir(directory)
    with open(directory + b"/main.py", "w") as file:
        file.write(sources.plain("unreachable"))


def file_is_not_utf8(pages: Path) -> None:
    (pages / "bad").mkdir()
    (pages / "bad/main.py").write_bytes(b'def get():\n    return "\xff"\n')


def file_has_a_nul(pages: Path) -> None:
    (pages / "bad").mkdir()
    (pages / "bad/main.py").write_bytes(b"def get():\n    return 1\n\0")


@pytest.mark.parametrize("when", ["at-start", "while-running"])
@pytest.mark.parametrize(
    "make",
    [
        empty_directory, dangling_link, pipe_for_a_file, entry_is_a_directory, link_to_itself,
        link_to_the_directory_above, link_to_everything, link_to_the_kernel, link_to_half_the_machine,
        name_is_not_utf8, file_is_not_utf8, file_has_a_nul,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_bad_directory(server: Server, make: Callable[[Path], None], when: str) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.page("ok", sources.plain("ok"))
    if when == "at-start":
        make(server.root / "pages")
    server.start()
    server.wait_body("/ok", "ok")
    if when == "while-running":
        make(server.root / "pages")
    failed = wait_until(
        lambda: [e for e in server.events() if e["event"] in ("page.failed", "build.failed")], server.tail
    )[0]
    assert "bad" in failed["page"]
    assert failed["error"]
    assert failed["remedy"] or failed["where"]
    server.edit("pages/ok/main.py", sources.plain("still ok"))
    server.wait_body("/ok", "still ok")


def test_an_unreadable_file(server: Server) -> None:
    """Root may read everything, so root gives up that right first."""
    server.expect_errors("page.failed", "build.failed")
    server.page("ok", sources.plain("ok"))
    server.page("bad", sources.plain("secret")).chmod(0)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    server.start(wrapper=drop)
    server.wait_body("/ok", "ok")
    failed = wait_until(
        lambda: [e for e in server.events(page="bad") if e["event"] in ("page.failed", "build.failed")],
        server.tail,
    )[0]
    assert "main.py" in failed["error"] + failed["where"]
    assert failed["remedy"]
    (server.root / "pages/bad/main.py").chmod(0o644)
    server.wait_body("/bad", "secret")


@pytest.mark.parametrize(("entry", "text"), [("main.py", sources.plain("secret")), ("main.go", sources.go("v0"))])
def test_a_directory_that_may_be_listed_and_not_entered(server: Server, entry: str, text: str) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.page("ok", sources.plain("ok"))
    bad = server.page("bad", text, entry).parent
    bad.chmod(0o600)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    server.start(wrapper=drop)
    server.wait_body("/ok", "ok")
    failed = wait_until(
        lambda: [e for e in server.events(page="bad") if e["event"] in ("page.failed", "build.failed")], server.tail
    )[0]
    assert "bad" in failed["error"] + failed["where"]
    assert failed["remedy"]
    server.edit("pages/ok/main.py", sources.plain("still ok"))
    server.wait_body("/ok", "still ok")
    bad.chmod(0o755)
    wait_until(lambda: server.get("/bad").status == 200, server.tail)


def test_a_link_to_where_the_server_may_not_look(server: Server) -> None:
    """It neither breaks the watcher nor prints past the log."""
    server.page("ok", sources.plain("ok"))
    hidden = server.write("hidden/deep/secret.txt", "")
    hidden.parents[1].chmod(0)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    server.expect_errors("page.failed")
    server.start(wrapper=drop)
    server.wait_body("/ok", "ok")
    (server.root / "pages/ok/link").symlink_to(hidden)
    failed = server.wait_log("page.failed", page="ok")
    assert failed["remedy"]
    hidden.parents[1].chmod(0o755)
    server.edit("pages/ok/main.py", sources.plain("mended"))
    server.wait_body("/ok", "mended")
    assert "Traceback" not in server.terminal


def test_a_page_yaml_that_would_be_waited_for(server: Server) -> None:
    """The server goes on, and so does the page."""
    server.expect_errors("page.failed")
    server.page("edited", sources.plain("good"))
    server.start()
    server.wait_body("/edited", "good")
    os.mkfifo(server.root / "pages/edited/page.yaml")
    failed = server.wait_log("page.failed", page="edited")
    assert "no regular file" in failed["error"] and failed["remedy"]
    assert server.get("/edited").text == "good"
    (server.root / "pages/edited/page.yaml").unlink()
    server.edit("pages/edited/main.py", sources.plain("better"))
    server.wait_body("/edited", "better")


def test_data_beyond_all_measure_beside_the_code(server: Server) -> None:
    server.expect_errors("page.failed")
    server.page("edited", sources.plain("good"))
    server.start()
    server.wait_body("/edited", "good")
    with (server.root / "pages/edited/data.bin").open("wb") as data:
        data.truncate(2**41)
    failed = server.wait_log("page.failed", page="edited")
    assert "larger than 256 MiB" in failed["error"] and "data.bin" in failed["where"] and failed["remedy"]
    assert server.get("/edited").text == "good"
    (server.root / "pages/edited/data.bin").unlink()
    server.edit("pages/edited/main.py", sources.plain("better"))
    server.wait_body("/edited", "better")


def test_a_page_with_much_data_is_served(server: Server) -> None:
    with server.write("pages/large/data.bin", "").open("wb") as data:
        data.truncate(2**25)
    server.page("large", sources.plain("large"))
    server.start()
    server.wait_body("/large", "large")
    server.edit("pages/large/main.py", sources.plain("edited"))
    server.wait_body("/large", "edited")


def test_a_link_loop_among_files(server: Server) -> None:
    server.page("page", sources.plain("page"))
    (server.root / "pages/page/loop").symlink_to(server.root / "pages/page")
    server.expect_errors("page.failed")
    server.page("ok", sources.plain("ok"))
    server.start()
    server.wait_body("/ok", "ok")


def refused(server: Server, code: int) -> str:
    """Start a server that must not start; return what it says."""
    server.launch()
    assert server.wait_exit() == code, server.terminal
    assert "Traceback" not in server.terminal
    return server.terminal


def test_a_missing_pages_directory(server: Server) -> None:
    (server.root / "pages").rmdir()
    said = refused(server, 4)
    assert "pages is missing" in said
    assert "mkdir" in said


def test_a_port_in_use(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        said = refused(server, 4)
    assert str(server.port) in said
    assert "in use" in said


@pytest.mark.parametrize("same_port", [False, True])
def test_a_second_server_in_the_project(server: Server, tmp_path: Path, same_port: bool) -> None:
    server.page("index", sources.plain("first"))
    server.start()
    server.wait_body("/", "first")
    second = Server(tmp_path / "unused")
    second.root = server.root
    second.launch(env={} if same_port else {"TQSERVER_SERVER__PORT": str(second.port)})
    assert second.wait_exit() == 4
    assert f"pid {server.pid}" in server.terminal
    assert server.get("/").text == "first"


def test_a_full_port_range(server: Server) -> None:
    """One port, and it is taken: the page says so, others run, and it starts once a port is free."""
    server.expect_errors("page.failed")
    server.page("ok", sources.plain("ok"))
    server.page("go", sources.go("v0"), "main.go")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.configure(f"workers:\n  port_range_start: {port}\n  port_range_end: {port}\n")
        server.start()
        server.wait_body("/ok", "ok")
        failed = server.wait_log("page.failed", page="go")
        assert str(port) in failed["error"]
        assert "port_range" in failed["remedy"]
    server.edit("pages/go/main.go", sources.go("v1"))
    server.wait_body("/go", "v1")


def test_no_go_toolchain(server: Server) -> None:
    """The page says how to get one; a Python page beside it runs."""
    server.expect_errors("build.failed")
    server.page("ok", sources.plain("ok"))
    server.page("go", sources.go("v0"), "main.go")
    blocked = server.write("blocked/go/__init__.py", "")
    server.start(env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(blocked.parents[1])})
    server.wait_body("/ok", "ok")
    if Path("/usr/bin/go").exists():
        pytest.skip("the system's go is in /usr/bin")
    failed = server.wait_log("build.failed", page="go")
    assert "tqserver[go]" in failed["remedy"]
    assert "tqserver[go]" in server.get("/go").text


REPORTS = """\
import os

REPORT = next(int(fd) for fd in os.listdir("/proc/self/fd") if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"))
"""


def test_a_page_that_writes_to_its_report_is_replaced(server: Server) -> None:
    server.expect_errors("worker.exited")
    server.page(
        "noise",
        REPORTS + "\n\ndef get():\n    return str(os.getpid())\n\n\ndef post():\n    os.write(REPORT, b'\\xff' * 10)\n",
    )
    server.start()
    server.wait_live("noise")
    first = server.get("/noise").text
    server.get("/noise", "POST", b"")
    exited = server.wait_log("worker.exited", page="noise", level="error")
    assert "no report" in exited["reason"]
    wait_until(lambda: server.get("/noise").text != first, server.tail)


def test_a_page_that_garbles_its_report_at_once_has_failed(server: Server) -> None:
    server.expect_errors("page.failed")
    server.page("noise", REPORTS + "os.write(REPORT, b'\\xff' * 10)\n\n\ndef get():\n    return 'never'\n")
    server.start()
    assert "no report" in server.wait_log("page.failed", page="noise")["error"]


def test_files_that_a_page_invents_do_no_harm(server: Server) -> None:
    """Those outside the project are none of ours; of the project there is a bound, and a word about it."""
    server.expect_errors("page.reads_too_much")
    source = (
        REPORTS
        + """
from tqserver.host.sockets import send_frame
from tqserver.wire.messages import Loaded, from_child
import socket

def tell(top, count):
    with socket.socket(fileno=os.dup(REPORT)) as report:
        for start in range(0, count, 1000):
            send_frame(report, from_child.encode(Loaded([f"{top}/x{number}" for number in range(start, start + 1000)])))

def get():
    tell("/nowhere", 200_000)
    return "outside"

def post():
    tell(os.getcwd(), 20_000)
    return "inside"
"""
    )
    server.page("invents", source)
    server.page("other", sources.plain("v0"))
    server.start()
    server.wait_live("invents")
    assert server.get("/invents").text == "outside"
    assert server.get("/invents", "POST", b"").text == "inside"
    server.wait_log("page.reads_too_much", page="invents")
    server.edit("pages/other/main.py", sources.plain("v1"))
    server.wait_body("/other", "v1")
    server.stop()
    assert "/nowhere" not in (server.root / ".tqserver/journal.json").read_text()
