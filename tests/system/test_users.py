"""Workers of another user: what they are, what they may reach, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system import cli, sources
from tests.system.harness import Server, wait_until

USER = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes of another user")
TELLS = """\
import os

AT_IMPORT = os.getresuid()


def get():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    names = ("CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Groups")
    try:
        os.setuid(0)
        back = "root again"
    except PermissionError:
        back = "no way back"
    return {
        "import": AT_IMPORT, "uid": os.getresuid(), "gid": os.getresgid(), "back": back,
        "env": {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")},
        **{name: status[name].strip() for name in names},
    }
"""


def as_user(user: str = USER, **more: object) -> str:
    lines = "".join(f"      {name}: {value}\n" for name, value in more.items())
    return f'workers:\n  paths:\n    "/page":\n      user: "{user}"\n{lines}'


@pytest.fixture
def server() -> Iterator[Server]:
    """A project that everybody may enter: those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="tq-users-") as directory:
        server = Server(Path(directory) / "site")
        for passable in (server.root.parent, server.root):
            passable.chmod(0o711)
        yield server
        server.finish()


@as_root
def test_a_python_page_of_another_user(server: Server) -> None:
    server.configure(as_user())
    server.page("page", TELLS)
    server.page("own", TELLS)
    server.start()
    server.wait_live("page")
    server.wait_live("own")
    told = json.loads(server.get("/page").text)
    nobody = pwd.getpwnam(USER)
    assert told["import"] == told["uid"] == [nobody.pw_uid] * 3, "before any code of the page"
    assert told["gid"] == [nobody.pw_gid] * 3
    assert told["Groups"].split() == [str(nobody.pw_gid)]
    assert {int(told[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
    assert (told["NoNewPrivs"], told["back"]) == ("1", "no way back")
    assert told["env"] == {"HOME": nobody.pw_dir, "USER": USER, "LOGNAME": USER}
    assert json.loads(server.get("/own").text)["uid"] == [0, 0, 0], "no other page's"
    server.edit("pages/page/main.py", sources.plain("v1"))
    server.wait_body("/page", "v1")


@as_root
def test_an_interpreter_that_the_user_may_not_read(server: Server) -> None:
    """importlib says that there is no such module; the reason is another, and there may be a way to import it."""
    server.expect_errors("page.failed")
    hidden = server.root.parent / "hidden"
    hidden.mkdir(mode=0o700)
    server.configure(as_user())
    server.page("page", f"import sys\n\nsys.path.insert(0, '{hidden}/packages')\nimport tq_no_such_module\n")
    server.start()
    failed = server.wait_log("page.failed", page="page")
    assert "No module named" in failed["error"]
    assert f"uid {pwd.getpwnam(USER).pw_uid} may not read {hidden}/packages" in failed["remedy"]


READS_PYTHON = "import iniconfig, os; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.stat(iniconfig.__file__)"


where_nobody_reads_python = pytest.mark.skipif(
    os.geteuid() == 0 and subprocess.run([sys.executable, "-c", READS_PYTHON], stderr=subprocess.DEVNULL).returncode,
    reason="packages lie where nobody may not read them",
)


@as_root
@where_nobody_reads_python
def test_no_zygote_imports_for_a_page_of_another_user(server: Server) -> None:
    """A zygote is root: what such a page imports is imported by its workers, each time."""
    page = "import sys\n\nHAD = 'iniconfig' in sys.modules\nimport iniconfig\n\n\ndef get():\n    return f'{HAD} @'\n"
    server.configure(as_user())
    for name in ("page", "own"):
        server.page(name, page.replace("@", "v0"))
    server.start()
    server.wait_body("/page", "False v0")
    server.wait_body("/own", "False v0")
    for name, had in (("page", "False"), ("own", "True")):
        server.edit(f"pages/{name}/main.py", page.replace("@", "v1"))
        server.wait_body(f"/{name}", f"{had} v1")


@as_root
def test_a_go_page_of_another_user(server: Server) -> None:
    server.configure(as_user())
    server.page("page", sources.go("v0"), "main.go")
    server.start()
    server.wait_live("page")
    assert server.get("/page").text == "v0"
    process = psutil.Process(server.worker_pid("page"))
    assert process.username() == USER
    assert "run/" in server.events("worker.ready", page="page")[0]["endpoint"], "the unix socket, not a port"
    server.edit("pages/page/main.go", sources.go("v1"))
    server.wait_body("/page", "v1")


@as_root
def test_the_kernel_ends_them_with_the_server(server: Server) -> None:
    """A change of user clears the parent-death signal: it is asked for anew, by whichever way a worker started."""
    server.configure(f"workers:\n  default:\n    user: {USER}\n")
    server.page("python", sources.plain("v0"))
    server.page("go", sources.go("v0"), "main.go")
    server.start()
    for page in ("python", "go"):
        server.wait_live(page)
    workers = [psutil.Process(server.worker_pid(page)) for page in ("python", "go")]
    assert {process.username() for process in workers} == {USER}
    for process in server.processes():
        if process not in workers:
            process.kill()
    server.wait_exit()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    since = server.mark()
    server.launch()
    server.wait_log("server.ready", since)
    server.wait_body("/python", "v0")


@as_root
def test_what_a_user_is_kept_from(server: Server) -> None:
    """Not the sockets of other pages, nor the server's, nor a list of what is in the store."""
    server.page("page", (
        "import os\n\n\ndef may(path, how):\n    return os.access(path, how)\n\n\n"
        "def get(request):\n"
        "    top = os.getcwd() + '/.tqserver'\n"
        "    return {name: [may(f'{top}/{name}', how) for how in (os.R_OK, os.W_OK)]\n"
        "            for name in ('', 'admin.sock', 'lock', 'run', 'store', request.query_params['other'])}\n"
    ))  # fmt: skip
    server.configure(as_user())
    server.page("other", sources.plain("other"))
    server.start()
    server.wait_live("page")
    server.wait_live("other")
    endpoint = server.events("worker.ready", page="other")[0]["endpoint"]
    other = Path(endpoint.removeprefix("unix:")).relative_to(server.root / ".tqserver")
    for name, rights in json.loads(server.get(f"/page?other={other}").text).items():
        assert rights == [False, False], name


@as_root
def test_a_project_that_the_user_cannot_enter(server: Server) -> None:
    server.expect_errors("page.failed")
    server.root.parent.chmod(0o700)
    server.configure(as_user())
    server.page("page", TELLS)
    server.start()
    failed = server.wait_log("page.failed", page="page")
    assert f"user {USER} cannot enter {server.root}" in failed["error"]
    assert "chmod o+x" in failed["remedy"]


@as_root
def test_a_link_in_the_place_of_the_socket_leads_no_proxy_astray(server: Server) -> None:
    """A proxy is root: what the user may not open must not be opened for it."""
    server.expect_errors("page.failed")
    server.configure(as_user(start_timeout_seconds=2))
    server.page("page", (
        'package main\n\nimport ("os"; "time")\n\nfunc main() {\n'
        '\tos.Symlink("../../../admin.sock", os.Getenv("TQ_SOCKET"))\n\ttime.Sleep(time.Hour)\n}\n'
    ), "main.go")  # fmt: skip
    server.start()
    assert "no socket of user nobody" in server.wait_log("page.failed", page="page")["error"]


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("tq-no-such-user", "there is no user tq-no-such-user on this machine"),
        ("nobody:tq-no-such-group", "there is no group tq-no-such-group on this machine"),
        ("4123456", 'name a group too, "4123456:GROUP"'),
    ],
)
def test_a_user_that_is_not_there(server: Server, user: str, says: str) -> None:
    server.configure(as_user(user))
    server.launch()
    assert server.wait_exit() == 3
    assert 'config/server.yaml:7:13: workers.paths."/page".user: ' in server.terminal
    assert says in server.terminal
    server.page("page", sources.plain("v0"))
    checked = cli.run(server.root, "check")
    assert checked.code == 0, "it may be right on the machine that serves it"
    assert "NOTE" in checked.out
    assert says in checked.out


@as_root
def test_a_user_that_is_not_there_is_refused_while_it_runs(server: Server) -> None:
    server.expect_errors("config.invalid")
    server.page("page", TELLS)
    server.start()
    server.wait_live("page")
    server.configure(as_user("tq-no-such-user"))
    assert "there is no user tq-no-such-user" in server.wait_log("config.invalid")["error"]
    server.configure(as_user())
    assert server.wait_log("config.applied")
    uid = pwd.getpwnam(USER).pw_uid
    wait_until(lambda: json.loads(server.get("/page").text)["uid"] == [uid] * 3, server.tail)


@where_nobody_reads_python
def test_a_user_that_only_root_may_become(server: Server) -> None:
    """The same place, asked for by somebody else than root."""
    if os.geteuid() == 0:
        os.chown(server.root, 65534, 65534)
        wrapper = ["setpriv", "--reuid=65534", "--clear-groups"]
        user = "daemon"
    else:
        wrapper, user = [], USER
    server.configure(as_user(user))
    server.launch(wrapper=wrapper)
    assert server.wait_exit() == 3
    assert f"workers cannot run as {user}: only root may start processes of another user" in server.terminal


# --- open files -------------------------------------------------------------------------------------------

LIMIT = "import resource\n\n\ndef get():\n    return list(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
GO_LIMIT = sources.GO.replace('"strings"', '"strings"\n\t"syscall"').replace(
    "\tswitch {", "\tvar limit syscall.Rlimit\n\tsyscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)\n\tswitch {", 1
).replace("io.WriteString(w, version)\n\t}", 'fmt.Fprint(w, limit.Cur, " ", limit.Max)\n\t}')  # fmt: skip


def test_the_open_files_of_a_worker(server: Server) -> None:
    server.configure('workers:\n  paths:\n    "/bound":\n      open_files: 200\n')
    server.page("bound", LIMIT)
    server.page("bound/go", GO_LIMIT, "main.go")
    server.page("free", LIMIT)
    server.start(wrapper=["prlimit", "--nofile=512:4096"])
    for page in ("bound", "bound/go", "free"):
        server.wait_live(page)
    assert server.get("/bound").text == "[200,200]"
    assert server.get("/bound/go").text == "200 200"
    assert server.get("/free").text == "[4096,4096]", "all that the server may"
    for process in server.processes():
        if process.pid != server.worker_pid("bound") and process.pid != server.worker_pid("bound/go"):
            assert process.rlimit(psutil.RLIMIT_NOFILE) == (4096, 4096), process


def test_more_open_files_than_there_may_be(server: Server) -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    server.configure(f"workers:\n  default:\n    open_files: {most + 1}\n")
    server.launch()
    assert server.wait_exit() == 3
    assert "config/server.yaml:6:17: workers.default.open_files: " in server.terminal
    assert "is more than this server may have" in server.terminal
