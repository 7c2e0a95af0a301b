"""Every way to learn of a change that is not the fast one: polling, limits, links, trees that go and come back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest

from tests.system import sources
from tests.system.harness import Server, wait_until

POLLING = {"WATCHFILES_FORCE_POLLING": "1"}


def edits_and_new_pages_are_seen(server: Server) -> None:
    """Make, edit, rename and delete pages of a server that runs."""
    server.edit("pages/page/main.py", sources.plain("v1"))
    server.wait_body("/page", "v1")
    server.edit("pages/page/main.py", sources.plain("v2"), "same-second")
    server.wait_body("/page", "v2")
    server.edit("pages/page/main.py", sources.plain("v3"), "rename")
    server.wait_body("/page", "v3")
    server.page("new/deep", sources.plain("new"))
    server.wait_body("/new/deep", "new")
    (server.root / "pages/new").rename(server.root / "pages/moved")
    server.wait_body("/moved/deep", "new")
    wait_until(lambda: server.get("/new/deep").status == 404, server.tail)
    server.edit("pages/moved/deep/main.py", sources.plain("edited"))
    server.wait_body("/moved/deep", "edited")
    shutil.rmtree(server.root / "pages/moved")
    wait_until(lambda: server.get("/moved/deep").status == 404, server.tail)


def test_polling_when_it_is_asked_for(server: Server) -> None:
    server.page("page", sources.plain("v0"))
    server.start(env=POLLING)
    server.wait_body("/page", "v0")
    line = server.events("watcher.polling")[0]
    assert line["level"] == "warning"
    assert line["directory"] == f"{server.root}/pages"
    edits_and_new_pages_are_seen(server)


def test_polling_sees_the_templates_that_a_page_has_read(server: Server) -> None:
    server.page("page", "from tqserver.page import render\n\n\ndef get():\n    return render('base.html')\n")
    server.write("templates/base.html", "one")
    server.start(env=POLLING)
    server.wait_body("/page", "one")
    server.edit("templates/base.html", "two")
    server.wait_body("/page", "two")


def limited(watches: int) -> Sequence[str]:
    """A command that runs another with so many inotify watches: in a user namespace the limit is its own."""
    script = f'echo {watches} > /proc/sys/user/max_inotify_watches && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", script, "limited"]


def needs_namespaces() -> None:
    if subprocess.run([*limited(9), "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")


def test_too_few_watches_fall_back_to_polling(server: Server) -> None:
    """Loudly, with the remedy, and with everything still seen."""
    needs_namespaces()
    server.expect_errors("watcher.polling")
    server.page("page", sources.plain("v0"))
    server.start(wrapper=limited(1))
    line = server.wait_log("watcher.polling")
    assert line["level"] == "error"
    assert f"cannot watch {server.root}/pages" in line["reason"]
    assert "sysctl fs.inotify.max_user_watches=" in line["remedy"]
    server.wait_body("/page", "v0")
    edits_and_new_pages_are_seen(server)


def test_watches_that_run_out_later_fall_back_to_polling(server: Server) -> None:
    needs_namespaces()
    server.expect_errors("watcher.polling")
    server.page("page", sources.plain("v0"))
    server.start(wrapper=limited(4))
    server.wait_body("/page", "v0")
    assert server.events("watcher.polling") == []
    for number in range(4):
        server.page(f"n{number}", sources.plain(f"n{number}"))
    server.wait_log("watcher.polling")
    for number in range(4):
        server.wait_body(f"/n{number}", f"n{number}")
    edits_and_new_pages_are_seen(server)


def test_a_page_that_is_a_link_and_a_file_that_is_one(server: Server) -> None:
    for release in ("one", "two"):
        server.write(f"releases/{release}/main.py", sources.plain(release))
    server.page("page", "from helper import get\n")
    server.write("shared/helper.py", sources.plain("h0"))
    (server.root / "pages/page/helper.py").symlink_to("../../shared/helper.py")
    link = server.root / "pages/linked"
    link.symlink_to("../releases/one")
    server.start()
    server.wait_body("/linked", "one")
    server.wait_body("/page", "h0")
    server.edit("shared/helper.py", sources.plain("h1"))
    server.wait_body("/page", "h1")
    following = link.with_name(".next")
    following.symlink_to("../releases/two")
    following.replace(link)
    server.wait_body("/linked", "two")
    server.edit("releases/two/main.py", sources.plain("edited"))
    server.wait_body("/linked", "edited")


def test_a_pages_directory_that_goes_and_comes_back(server: Server) -> None:
    """What was live stays live meanwhile; what comes back is followed as before."""
    server.expect_errors("pages.missing", "page.failed")
    server.page("page", sources.plain("v0"))
    server.start()
    server.wait_body("/page", "v0")
    since = server.mark()
    (server.root / "pages").rename(server.root / "away")
    server.wait_log("pages.missing", since)
    assert server.get("/page").text == "v0"
    (server.root / "away").rename(server.root / "pages")
    server.edit("pages/page/main.py", sources.plain("v1"))
    server.wait_body("/page", "v1")
    shutil.copytree(server.root / "pages", server.root / "copy")
    shutil.rmtree(server.root / "pages")
    os.rename(server.root / "copy", server.root / "pages")
    server.wait_body("/page", "v1")
    server.edit("pages/page/main.py", sources.plain("v2"))
    server.wait_body("/page", "v2")


def test_a_pages_directory_that_is_unmounted(server: Server) -> None:
    """What was below the mount is there again, and is followed."""
    server.page("page", sources.plain("below"))
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounts = (
        "mkdir other && mount -t tmpfs none other && cp -r pages/page other && mount --move other pages && "
        'sed -i s/below/mounted/ pages/page/main.py && exec "$@"'
    )
    if subprocess.run([*mounted, "mount -t tmpfs none /mnt"], check=False, capture_output=True).returncode:
        pytest.skip("no mount can be made here")
    server.start(wrapper=[*mounted, mounts, "mounted"])
    server.wait_body("/page", "mounted")
    inside = ["nsenter", "--target", str(server.pid), "--user", "--mount", f"--wd={server.root}"]
    subprocess.run([*inside, "umount", f"{server.root}/pages"], check=True)
    server.wait_body("/page", "below")
    server.edit("pages/page/main.py", sources.plain("edited"))
    server.wait_body("/page", "edited")
