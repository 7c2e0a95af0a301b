"""What counts as a change: content, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections import Counter

from tests.system import sources
from tests.system.harness import Server, wait_until
from tests.system.load import Load

PAGES = 30


def canary(server: Server, version: str) -> None:
    """Edit another page and see it live: whatever came before has been dealt with by then."""
    server.edit("pages/canary/main.py", sources.plain(version))
    server.wait_body("/canary", version)


def test_a_touch_without_a_change_builds_nothing(server: Server) -> None:
    server.page("touched", sources.plain("same"))
    server.page("canary", sources.plain("c0"))
    server.start()
    server.wait_body("/touched", "same")
    server.wait_body("/canary", "c0")
    since, worker = server.mark(), server.worker_pid("touched")
    os.utime(server.root / "pages/touched/main.py")
    canary(server, "c1")
    server.edit("pages/touched/main.py", sources.plain("same"), "rename")
    canary(server, "c2")
    for number, how in enumerate(("in-place", "two-opens"), 3):  # empty for a moment, which is not believed
        server.edit("pages/touched/main.py", sources.plain("same"), how)
        canary(server, f"c{number}")
    assert server.events("build.started", since, page="touched") == []
    assert server.worker_pid("touched") == worker


def test_reading_a_page_builds_nothing(server: Server) -> None:
    server.page("read", sources.plain("same"))
    server.page("canary", sources.plain("c0"))
    server.start()
    server.wait_body("/read", "same")
    server.wait_body("/canary", "c0")
    since = server.mark()
    subprocess.run(["grep", "-r", "return", "pages"], cwd=server.root, check=True, capture_output=True)
    canary(server, "c1")
    assert server.events("build.started", since, page="read") == []


def test_an_undone_edit_is_live_again(server: Server) -> None:
    server.page("edited", sources.plain("one"))
    server.start()
    server.wait_body("/edited", "one")
    for text in ("two", "one", "two", "one"):
        server.edit("pages/edited/main.py", sources.plain(text))
        server.wait_body("/edited", text)


def test_two_edits_of_one_size_with_one_modification_time(server: Server) -> None:
    """A stale .pyc, or a watcher that compares times and sizes, would show the first (pitfall 14)."""
    server.page("edited", sources.plain("aaa"))
    server.start()
    server.wait_body("/edited", "aaa")
    for text in ("bbb", "ccc", "ddd"):
        server.edit("pages/edited/main.py", sources.plain(text), "same-second")
        server.wait_body("/edited", text)


def page_with_a_helper(server: Server) -> None:
    server.write("pages/edited/helper.py", 'WORD = "aaa"\n')
    server.page("edited", "import helper\n\n\ndef get():\n    return helper.WORD\n")
    server.start()
    server.wait_body("/edited", "aaa")


def test_a_helper_module_of_one_size_and_time(server: Server) -> None:
    page_with_a_helper(server)
    for text in ("bbb", "ccc"):
        server.edit("pages/edited/helper.py", f'WORD = "{text}"\n', "same-second")
        server.wait_body("/edited", text)


def test_no_bytecode_is_written_beside_pages(server: Server) -> None:
    page_with_a_helper(server)
    assert list(server.root.glob("pages/**/__pycache__")) == []


def test_git_checkout_of_thirty_pages(server: Server) -> None:
    """At most one build per page and content, and nobody notices (pitfall 13)."""
    names = [f"p{number:02}" for number in range(PAGES)]

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, *arguments], cwd=server.root, check=True, capture_output=True)

    server.write(".gitignore", ".tqserver/\nlogs/\nterminal.txt\n__pycache__/\n")
    git("init")
    for version in ("v1", "v0"):
        for name in names:
            server.page(name, sources.functions(version))
        git("checkout", "-b", version)
        git("add", ".")
        git("commit", "-m", version)
    server.start()
    for name in names:
        server.wait_body(f"/{name}", "v0")
    since = server.mark()
    with (
        Load(server.port, f"/{names[-1]}", downloads=False) as last,
        Load(server.port, "/p00", downloads=False) as first,
    ):
        git("checkout", "v1")
        for name in names:
            server.wait_live(name, since)
            server.wait_body(f"/{name}", "v1")
        last.switched(1)
        first.switched(1)
        wait_until(lambda: len(server.events("revision.retired", since)) >= PAGES, "all old revisions retired")
    first.assert_no_failure()
    last.assert_no_failure()
    builds = Counter((line["page"], line["digest"]) for line in server.events("build.started", since))
    assert max(builds.values()) == 1, builds.most_common(5)
    per_page = Counter(page for page, _ in builds)
    assert per_page == dict.fromkeys(names, 1)
