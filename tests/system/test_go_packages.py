"""Go pages that import packages of the project: their change rebuilds exactly the pages that read them."""

from __future__ import annotations

import shutil

import pytest

from tests.system import sources
from tests.system.harness import Server
from tests.system.load import Load

MODULE = "module example.org/site\n\ngo 1.21\n"
GREETING = sources.GO.replace('const version = "@VERSION@"', "var version = greet.Version()").replace(
    '\t"fmt"\n', '\t"example.org/site/pkg/greet"\n\t"fmt"\n'
)


def greet(version: str) -> str:
    return f'package greet\n\nfunc Version() string {{ return "{version}" }}\n'


@pytest.fixture
def site(server: Server) -> Server:
    """Two Go pages in one module, of which one imports ``pkg/greet``."""
    server.write("go.mod", MODULE)
    server.write("pkg/greet/greet.go", greet("v0"))
    server.page("greeting", GREETING, "main.go")
    server.page("plain", sources.go("plain"), "main.go")
    server.start()
    server.wait_body("/greeting", "v0")
    server.wait_body("/plain", "plain")
    return server


def assert_only_greeting_was_built(site: Server, since: int) -> None:
    """Anything for the other page would have been decided by the time at which an edit of it is live."""
    built = [line["page"] for line in site.events("build.started", since)]
    assert set(built) == {"greeting"}
    site.edit("pages/plain/main.go", sources.go("edited"))
    site.wait_body("/plain", "edited")
    assert len(site.events("build.started", since, page="plain")) == 1


def test_an_edit_a_new_file_and_a_deletion_in_a_package(site: Server) -> None:
    since = site.mark()
    with Load(site.port, "/greeting", downloads=False) as load:

        def seen(version: int) -> None:
            site.wait_body("/greeting", f"v{version}")
            site.wait_live("greeting", mark)
            load.switched(version)

        mark = site.mark()
        site.write("pkg/greet/greet.go", greet("v1"))
        seen(1)
        mark = site.mark()
        site.write("pkg/greet/version.go", "package greet\n\nfunc init() { version = `v2` }\n")
        site.write(
            "pkg/greet/greet.go", "package greet\n\nvar version string\n\nfunc Version() string { return version }\n"
        )
        seen(2)
        mark = site.mark()
        site.write("pkg/greet/another.go", "package greet\n\nfunc init() { version = `v3` }\n")
        (site.root / "pkg/greet/version.go").unlink()
        seen(3)
    load.assert_no_failure()
    assert_only_greeting_was_built(site, since)


def test_a_new_file_alone_counts(site: Server) -> None:
    site.write(
        "pkg/greet/greet.go", "package greet\n\nvar version = `v1`\n\nfunc Version() string { return version }\n"
    )
    site.wait_body("/greeting", "v1")
    site.write("pkg/greet/init.go", "package greet\n\nfunc init() { version = `v2` }\n")
    site.wait_body("/greeting", "v2")
    (site.root / "pkg/greet/init.go").unlink()
    site.wait_body("/greeting", "v1")


def test_a_package_that_is_no_longer_imported_builds_nothing(site: Server) -> None:
    site.edit("pages/greeting/main.go", sources.go("v1"))
    site.wait_body("/greeting", "v1")
    since = site.mark()
    site.write("pkg/greet/greet.go", greet("v9"))
    site.edit("pages/greeting/main.go", sources.go("v2"))
    site.wait_body("/greeting", "v2")
    assert len(site.events("build.started", since)) == 1


def test_a_package_that_is_missing_is_waited_for(site: Server) -> None:
    """Not even the directory above it is there when the page asks for it."""
    site.expect_errors("build.failed")
    site.edit("pages/greeting/main.go", GREETING.replace("pkg/greet", "lib/deep/greet"))
    failed = site.wait_log("build.failed", page="greeting")
    assert failed["where"].startswith("pages/greeting/main.go:4")
    assert site.get("/greeting").text == "v0"
    site.write("lib/deep/greet/greet.go", greet("v1"))
    site.wait_body("/greeting", "v1")


def test_a_package_that_is_renamed_away_and_back(site: Server) -> None:
    site.expect_errors("build.failed")
    pkg, away = site.root / "pkg", site.root / "away"
    pkg.rename(away)
    site.wait_log("build.failed", page="greeting")
    assert site.get("/greeting").text == "v0"
    away.rename(pkg)
    site.wait_log("page.restored", page="greeting")
    site.write("pkg/greet/greet.go", greet("v1"))
    site.wait_body("/greeting", "v1")
    shutil.rmtree(pkg)
    site.write("pkg/greet/greet.go", greet("v2"))
    site.wait_body("/greeting", "v2")


def test_a_go_mod_that_appears_makes_the_page_part_of_that_module(server: Server) -> None:
    server.expect_errors("build.failed")
    server.write("pkg/greet/greet.go", greet("v1"))
    server.page("greeting", GREETING, "main.go")
    server.start()
    server.wait_log("build.failed", page="greeting")
    server.write("go.mod", MODULE)
    server.wait_body("/greeting", "v1")


def test_local_modules_and_embedded_files(server: Server) -> None:
    """A replaced module beside the project's, a workspace is not needed; a new file in an embedded directory counts."""
    server.write("go.mod", MODULE + "\nrequire example.org/near v0.0.0\n\nreplace example.org/near => ./near\n")
    server.write("near/go.mod", "module example.org/near\n\ngo 1.21\n")
    server.write(
        "near/greet/greet.go",
        """\
package greet

import "embed"

//go:embed words
var words embed.FS

func Version() string {
	entries, _ := words.ReadDir("words")
	return entries[len(entries)-1].Name()
}
""",
    )
    server.write("near/greet/words/v0", "")
    server.page("greeting", GREETING.replace("example.org/site/pkg", "example.org/near"), "main.go")
    server.start()
    server.wait_body("/greeting", "v0")
    server.write("near/greet/words/v1", "")
    server.wait_body("/greeting", "v1")
    (server.root / "near/greet/words/v1").unlink()
    server.wait_body("/greeting", "v0")
