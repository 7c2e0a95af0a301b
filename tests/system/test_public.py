"""A page's ``public/``: files that need no worker, live as soon as they are saved, and nothing beside them."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from tests.system import sources
from tests.system.client import Connection
from tests.system.harness import Server, wait_until

SECRET = "not for everybody"


def asked_of_nobody(server: Server, path: str) -> bool:
    """Whether the page itself answers, since there is no such file."""
    return server.get(path).text == "page"


def test_files_are_served_while_the_worker_is_stuck(server: Server) -> None:
    server.page("page", sources.plain("page"))
    server.write("pages/page/public/app/style.css", "teal")
    server.start()
    server.wait_body("/page", "page")
    worker = server.worker_pid("page")
    os.kill(worker, signal.SIGSTOP)
    try:
        answer = server.get("/page/app/style.css")
        assert (answer.status, answer.text) == (200, "teal")
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
    finally:
        os.kill(worker, signal.SIGCONT)
    assert server.get("/page").text == "page"


def test_an_edit_is_live_at_once_and_reloads_nothing(server: Server) -> None:
    server.page("page", sources.plain("page"))
    server.write("pages/page/public/style.css", "v0")
    server.start()
    server.wait_body("/page/style.css", "v0")
    server.wait_live("page")
    since = server.mark()
    before = server.get("/page/style.css")
    for how in ("in-place", "rename"):
        server.edit("pages/page/public/style.css", f"saved {how}", how)
        after = server.get("/page/style.css", **{"If-None-Match": before.headers["etag"]})
        assert (after.status, after.text) == (200, f"saved {how}")
        assert server.get("/page/style.css", **{"If-None-Match": after.headers["etag"]}).status == 304
    server.write("pages/page/public/new.css", "new")
    assert server.get("/page/new.css").text == "new"
    (server.root / "pages/page/public/new.css").unlink()
    assert asked_of_nobody(server, "/page/new.css")
    server.edit("pages/page/main.py", sources.plain("edited"))
    server.wait_body("/page", "edited")
    assert len(server.events("revision.live", since)) == 1


@pytest.mark.parametrize("polling", [False, True], ids=["events", "polling"])
def test_a_public_directory_that_comes_and_goes(server: Server, polling: bool) -> None:
    server.page("page", sources.plain("page"))
    server.start(env={"WATCHFILES_FORCE_POLLING": "1"} if polling else None)
    server.wait_body("/page/style.css", "page")
    since = server.mark()
    public = server.root / "pages/page/public"
    for _ in range(2):
        server.write("pages/page/public/style.css", "teal")
        server.wait_body("/page/style.css", "teal")
        shutil.rmtree(public)
        server.wait_body("/page/style.css", "page")
    server.write("elsewhere/style.css", "linked")
    public.symlink_to(server.root / "elsewhere")
    server.wait_body("/page/style.css", "linked")
    assert server.events("build.started", since) == []


def test_files_of_a_broken_page_and_of_a_pattern(server: Server) -> None:
    server.expect_errors("page.failed", "build.failed")
    server.page("broken", "def get(:\n")
    server.write("pages/broken/public/style.css", "teal")
    server.write("pages/[id]/public/style.css", "by parameter")
    server.page("[id]", sources.plain("parameter"))
    server.page("index", sources.plain("index"))
    server.write("pages/index/public/robots.txt", "User-agent: *")
    server.start()
    server.wait_log("page.failed", page="broken")
    server.wait_body("/broken/style.css", "teal")
    assert server.get("/broken").status == 503
    server.wait_body("/7/style.css", "by parameter")
    server.wait_body("/robots.txt", "parameter")  # /[id] answers one segment, and has no such file
    assert server.get("/", "HEAD").status == 200


def plant(root: Path) -> None:
    """Put what nobody may get beside what everybody may, and every way to it that a directory can hold."""
    public = root / "pages/page/public"
    (public / ".git").mkdir(parents=True)
    for name in (".env", ".git/config"):
        (public / name).write_text(SECRET)
    (root / "secret.txt").write_text(SECRET)
    (root / "pages/page/secret.txt").write_text(SECRET)
    os.mkfifo(public / "pipe")
    (public / "passwd").symlink_to("/etc/passwd")
    (public / "link.txt").symlink_to("../secret.txt")
    (public / "up").symlink_to("..")
    (public / "root").symlink_to("/")
    (public / "hidden.txt").symlink_to(".env")
    (public / "zero").symlink_to("/dev/zero")
    (public / "loop").symlink_to("loop")
    (public / "ok.txt").write_text("ok")
    (public / "same.txt").symlink_to("ok.txt")


ESCAPES = [
    "../secret.txt",
    "../main.py",
    "..%2fsecret.txt",
    "..%2Fmain.py",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    ".%2e/main.py",
    "..%5csecret.txt",
    "..\\secret.txt",
    "%252e%252e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "..%c0%afsecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "....//secret.txt",
    "..;/secret.txt",
    "/../secret.txt",
    "x/../../secret.txt",
    "x/%2e%2e/%2e%2e/secret.txt",
    "ok.txt/../../secret.txt",
    "ok.txt%00",
    "ok.txt%00.css",
    "secret.txt%00",
    ".env",
    "%2eenv",
    ".git/config",
    ".git/",
    "pipe",
    "passwd",
    "link.txt",
    "up/secret.txt",
    "up/main.py",
    "up/../secret.txt",
    "root/etc/passwd",
    "hidden.txt",
    "zero",
    "loop",
    ".",
    "..",
    "/",
    "./",
    "//",
    "ok.txt/",
    "~root/.bashrc",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc/passwd",
    "file:///etc/passwd",
    "public/ok.txt",
    "public/.env",
    "ok.txt::$DATA",
    "ok.txt.",
    "ok.txt%20",
]


def test_no_way_leads_out_of_the_directory(server: Server) -> None:
    server.page("page", sources.plain("page"))
    plant(server.root)
    server.start()
    server.wait_body("/page", "page")
    server.wait_body("/page/ok.txt", "ok")
    assert server.get("/page/same.txt").text == "ok"
    refused = set()
    for escape in ESCAPES:
        for method in ("GET", "HEAD"):
            answer = server.get(f"/page/{escape}", method)
            assert answer.status in (200, 400, 404), escape
            refused.add(answer.status)
            assert method == "HEAD" or answer.status != 200 or answer.text == "page", (escape, answer)
            assert SECRET not in answer.text and "root:" not in answer.text, escape
    assert refused == {200, 400, 404}


def test_no_directory_is_listed(server: Server) -> None:
    server.page("page", sources.plain("page"))
    server.write("pages/page/public/deep/index.html", "an index")
    server.start()
    server.wait_body("/page/deep/index.html", "an index")
    for path in ("/page/", "/page/deep", "/page/deep/", "/page/public", "/page/public/"):
        assert asked_of_nobody(server, path), path


def test_a_large_file_whole_and_in_parts(server: Server) -> None:
    content = random.Random(7).randbytes(200_000_003)
    digest = hashlib.sha256(content).hexdigest()
    server.page("page", sources.plain("page"))
    file = server.root / "pages/page/public/large.iso"
    file.parent.mkdir()
    file.write_bytes(content)
    server.start()
    server.wait_body("/page", "page")
    with Connection(server.port) as connection:
        whole = connection.request("/page/large.iso")
        assert hashlib.sha256(whole.body).hexdigest() == digest
        size, received = len(content), b""
        while len(received) < size:  # as a download that is taken up again and again
            part = connection.request(
                "/page/large.iso",
                headers={
                    "Range": f"bytes={len(received)}-{len(received) + 49_999_999}",
                    "If-Range": whole.headers["etag"],
                },
            )
            assert part.status == 206
            received += part.body
        assert hashlib.sha256(received).hexdigest() == digest
        assert connection.request("/page/large.iso", headers={"Range": f"bytes={size}-"}).status == 416
        assert connection.request("/page").text == "page"


def test_compressed_neighbours(server: Server) -> None:
    server.page("page", sources.plain("page"))
    style = server.write("pages/page/public/style.css", "teal " * 100)
    style.with_name("style.css.gz").write_bytes(gzip.compress(style.read_bytes()))
    server.start()
    server.wait_body("/page", "page")
    packed = server.get("/page/style.css", **{"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == style.read_bytes()
    assert packed.headers["vary"] == "Accept-Encoding"
    server.edit("pages/page/public/style.css", "edited")  # the compressed one is of what it was before
    wait_until(lambda: server.get("/page/style.css", **{"Accept-Encoding": "gzip"}).text == "edited", server.tail)
