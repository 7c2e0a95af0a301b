"""Go pages: what they depend on, how they are built, what a broken one says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.build.conftest import PageOf, Write
from tqserver.build.pipeline import Pipeline
from tqserver.build.registry import by_name
from tqserver.build.runtimes import go
from tqserver.build.runtimes.base import Project
from tqserver.build.runtimes.go_sources import imports_of
from tqserver.model.errors import BuildError, Fault, ToolchainMissing
from tqserver.model.pages import Page

pytestmark = pytest.mark.usefixtures("reaped")

HELLO = """
package main

import "fmt"

func main() { fmt.Println("hello") }
"""
SERVER = """
package main

import (
	"net/http"

	"github.com/tqserver/tqserver/sdk/go/worker"
)

func main() {
	http.HandleFunc("GET /go/{name}", func(w http.ResponseWriter, r *http.Request) {})
	if err := worker.NewRuntime().StartServer(nil); err != nil {
		panic(err)
	}
}
"""
IMPORTED = "near/pkg lib v far site/gone other others worked"
GREETER = """
package main

import (
	"fmt" // for Println()
	greeting "example.org/site/internal/greet"
)

func main() { fmt.Println(greeting.Hello()) }
"""
GREET = """
package greet

import "example.org/site/internal/words"

func Hello() string { return words.Hello }
"""


@pytest.fixture
def toolchain() -> Path:
    found = go.find_toolchain()
    assert found is not None, "the tests need Go: the dev extra with the go extra, or the distribution's"
    return found


@pytest.fixture
def module(write: Write, page_of: PageOf) -> Page:
    """A project with a go.mod, and a page that imports one of its packages, which imports another."""
    write("go.mod", "module example.org/site\n\ngo 1.19\n")
    write("internal/greet/greet.go", GREET)
    write("internal/words/words.go", 'package words\n\nconst Hello = "hello"\n')
    write("internal/other/other.go", "package other\n")
    write("pages/a/main.go", GREETER)
    return page_of("a")


def output_of(artifact: Path) -> str:
    return subprocess.run([artifact / go.BINARY], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('package a\nimport "fmt"\nimport x "y/z"\nimport . "dot"\nimport _ "blank"', "fmt y/z dot blank"),
        ('package a\nimport (\n"fmt" // (a) comment\n/* "no" ) */ io "io"; "os"\n)', "fmt io os"),
        ("package a\nimport `raw`\nfunc f() {}", "raw"),
        ('package a\nvar s = "fmt"', ""),
    ],
)
def test_imports_are_told_from_the_text(source: str, wanted: str) -> None:
    assert imports_of(source.encode()) == set(wanted.split())


@pytest.mark.usefixtures("toolchain")
async def test_a_page_without_a_module_just_builds(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/a/main.go", HELLO)
    write("pages/a/main_test.go", "package main\n\nthis is not compiled\n")
    page = page_of("a")
    artifact = (await pipeline.build(page, await pipeline.read(page, []))).path
    assert output_of(artifact) == "hello\n"
    assert [file.name for file in artifact.iterdir()] == [go.BINARY]
    assert sorted(file.name for file in Path(page.directory).iterdir()) == ["main.go", "main_test.go"]
    launch = by_name("go").launch(page, artifact)
    assert launch.argv == (str(artifact / "page"),) and launch.needs_port


@pytest.mark.usefixtures("toolchain")
async def test_the_worker_package_is_at_hand(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/go/main.go", SERVER)
    page = page_of("go")
    assert (await pipeline.build(page, await pipeline.read(page, []))).path.is_dir()


@pytest.mark.usefixtures("toolchain")
async def test_a_page_that_is_a_link_builds(write: Write, page_of: PageOf, pipeline: Pipeline, root: Path) -> None:
    write("elsewhere/main.go", HELLO)
    (root / "pages/a").symlink_to(root / "elsewhere")
    page = page_of("a")
    assert output_of((await pipeline.build(page, await pipeline.read(page, []))).path) == "hello\n"


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(
    ("name", "text", "place", "said"),
    [
        (
            "main.go",
            HELLO.replace("Println", "Printline"),
            "pages/a/main.go:6:19",
            "undefined: fmt.Printline",
        ),
        ("main.go", HELLO.replace("}", ""), "pages/a/main.go:", "syntax error"),
        (
            "main.go",
            HELLO.replace('"fmt"', '"fmt"\nimport "os"'),
            "pages/a/main.go:5:8",
            "imported and not used",
        ),
        ("other.go", "package main\n\nvar x int = y\n", "pages/a/other.go:3:13", "undefined: y"),
    ],
)
async def test_a_mistake_is_placed(
    write: Write, page_of: PageOf, pipeline: Pipeline, name: str, text: str, place: str, said: str
) -> None:
    write("pages/a/main.go", HELLO)
    write(f"pages/a/{name}", text)
    page = page_of("a")
    with pytest.raises(BuildError) as caught:
        await pipeline.build(page, await pipeline.read(page, []))
    assert str(caught.value.location).startswith(place)
    assert said in caught.value.message and f"{place}" in caught.value.output
    assert caught.value.fault is Fault.AUTHOR


@pytest.mark.usefixtures("toolchain")
async def test_another_module_needs_a_go_mod(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/a/main.go", HELLO.replace('"fmt"', '"fmt"\nimport _ "example.org/other"'))
    page = page_of("a")
    with pytest.raises(BuildError, match="no required module provides") as caught:
        await pipeline.build(page, await pipeline.read(page, []))
    assert "go mod init" in caught.value.remedy and caught.value.location is not None
    assert caught.value.location.file == "pages/a/main.go"


@pytest.mark.usefixtures("toolchain")
async def test_a_project_with_a_module_is_built_in_it(
    module: Page, write: Write, pipeline: Pipeline, root: Path
) -> None:
    artifact = await pipeline.build(module, await pipeline.read(module, []))
    assert output_of(artifact.path) == "hello\n"
    write("internal/words/words.go", 'package words\n\nconst Hello = "changed"\n')
    artifact = await pipeline.build(module, await pipeline.read(module, []))
    assert output_of(artifact.path) == "changed\n"
    assert (root / "go.mod").read_text() == "module example.org/site\n\ngo 1.19\n"


@pytest.mark.usefixtures("toolchain")
async def test_a_page_whose_name_is_no_import_path_is_built_in_its_module(
    module: Page, write: Write, page_of: PageOf, pipeline: Pipeline
) -> None:
    write("pages/users/[id]/main.go", GREETER.replace("greeting.Hello()", "greeting.Hello(), name"))
    write("pages/users/[id]/name.go", 'package main\n\nconst name = "you"\n')
    write("pages/users/[id]/main_test.go", "package main\n\nthis is not compiled\n")
    page = page_of("users/[id]")
    assert output_of((await pipeline.build(page, await pipeline.read(page, []))).path) == "hello you\n"
    write("pages/users/[id]/name.go", "package main\n\nconst name = you\n")
    with pytest.raises(BuildError) as caught:
        await pipeline.build(page, await pipeline.read(page, []))
    assert str(caught.value.location) == "pages/users/[id]/name.go:3:14"


@pytest.mark.usefixtures("toolchain")
async def test_a_mistake_in_go_mod_is_placed(module: Page, write: Write, pipeline: Pipeline) -> None:
    write("go.mod", "module example.org/site\n\ngo 1.21\n\nrequired x\n")
    with pytest.raises(BuildError, match="unknown directive") as caught:
        await pipeline.build(module, await pipeline.read(module, []))
    assert str(caught.value.location) == "go.mod:5"


@pytest.mark.usefixtures("toolchain")
async def test_a_mistake_in_a_package_of_the_project_is_placed(module: Page, write: Write, pipeline: Pipeline) -> None:
    write("internal/words/words.go", "package words\n\nconst Hello = 1\n")
    with pytest.raises(BuildError) as caught:
        await pipeline.build(module, await pipeline.read(module, []))
    assert str(caught.value.location).startswith("internal/greet/greet.go:6:")


async def test_the_digest_follows_what_the_page_imports(module: Page, write: Write, pipeline: Pipeline) -> None:
    async def digest() -> str:
        return (await pipeline.read(module, [])).digest

    seen = [await digest()]
    for name, text in (
        ("internal/words/words.go", "package words\n\nconst Hello = `hi`\n"),
        ("internal/words/more.go", "package words\n"),
        ("internal/greet/greet.go", GREET + "\n//go:embed deep\nvar s string\n"),
        ("internal/greet/deep/file.txt", "embedded"),
        ("go.mod", "module example.org/site\n\ngo 1.20\n"),
    ):
        write(name, text)
        seen.append(await digest())
    assert len(set(seen)) == len(seen)
    write("internal/other/other.go", "package other\n\nvar x int\n")
    write("internal/words/words_test.go", "package words\n")
    write("pages/a/main_test.go", "package main\n")
    assert await digest() == seen[-1]


async def test_what_lies_outside_the_page_is_told(module: Page, write: Write, pipeline: Pipeline, root: Path) -> None:
    async def outside() -> set[str]:
        return {str(Path(path).relative_to(root)) for path in (await pipeline.read(module, [])).outside}

    read = "go.mod internal/greet internal/greet/greet.go internal/words internal/words/words.go"
    awaited = "go.sum go.work go.work.sum pages/go.mod pages/go.work vendor vendor/modules.txt"
    assert await outside() == {*read.split(), *awaited.split()}
    write("internal/greet/greet.go", GREET + '\nimport _ "example.org/site/not/there"\n')
    assert await outside() == {*read.split(), *awaited.split(), "not", "not/there"}
    write("internal/greet/greet.go", GREET + "\nimport _ `embed`\n\n//go:embed deep\nvar s string\n")
    write("internal/greet/deep/file.txt")
    assert await outside() == {*read.split(), *awaited.split(), "internal/greet/deep", "internal/greet/deep/file.txt"}
    write("pages/a/main.go", HELLO)
    assert await outside() == {"go.mod", *awaited.split()}


async def test_replaced_modules_and_workspaces_count(
    write: Write, page_of: PageOf, pipeline: Pipeline, root: Path
) -> None:
    write(
        "go.mod",
        """
        module example.org/site // the site

        replace (
            example.org/near v1.2.3 => ./near // kept here
            example.org/far => example.org/fork v1.0.0
        )
        """,
    )
    write(
        "go.work",
        """
        go 1.19
        use .
        use (
            "./lib" // quoted
            other
        )
        replace example.org/worked => ./worked
        """,
    )
    write("other/go.mod", 'module "example.org/other"\n\nreplace example.org/others v1.0.0 => ../others\n')
    write("other/o.go", "package other\n")
    write("others/o.go", "package others\n")
    write("worked/w.go", "package worked\n")
    write("near/go.mod", "module example.org/near\n")
    write("near/pkg/x.go", "package pkg\n")
    write("lib/go.mod", "module example.org/lib\n")
    write("lib/y.go", "package lib\n")
    write("vendor/example.org/v/z.go", "package v\n")
    imports = "\n".join(f'import _ "example.org/{path}"' for path in IMPORTED.split())
    write("pages/a/main.go", f"package main\n\n{imports}\n\nfunc main() {{}}\n")
    files = {str(file.relative_to(root)) for file in (await pipeline.read(page_of("a"), [])).inputs.files}
    wanted = "go.mod go.work near/go.mod near/pkg/x.go lib/go.mod lib/y.go vendor/example.org/v/z.go other/go.mod "
    wanted += "other/o.go others/o.go worked/w.go"
    assert files == {*wanted.split(), "pages/a/main.go"}


async def test_a_go_mod_that_appears_is_looked_for(write: Write, page_of: PageOf, pipeline: Pipeline) -> None:
    write("pages/a/main.go", HELLO)
    page = page_of("a")
    alone = await pipeline.read(page, [])
    file = write("go.mod", "module example.org/site\n")
    assert str(file) in alone.outside
    assert (await pipeline.read(page, [])).digest != alone.digest


async def test_without_a_toolchain_it_says_how_to_get_one(
    write: Write, page_of: PageOf, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write("pages/a/main.go", HELLO)
    page = page_of("a")
    source = await pipeline.read(page, [])
    with pytest.raises(ToolchainMissing) as caught:
        await pipeline.build(page, source)
    assert caught.value.remedy == f"{by_name('go').requirement().remedy}, then tqserver reload /a"
    assert "tqserver[go]" in caught.value.remedy and "apt-get install golang" in caught.value.remedy
    assert caught.value.fault is Fault.OPERATOR
    monkeypatch.undo()
    assert (await pipeline.read(page, [])).digest != source.digest  # once there is one, it is tried again


def test_one_that_is_installed_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert go.find_toolchain() is None
    seen = tmp_path.stat()
    program = tmp_path / "go" / "bin" / "go"
    program.parent.mkdir(parents=True)
    (tmp_path / "go" / "__init__.py").touch()
    program.write_bytes(b"\x7fELF")
    os.utime(tmp_path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # as within one tick of the file system's clock
    assert go.find_toolchain() == program


def test_a_launcher_on_the_path_gives_way_to_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launcher = tmp_path / "go"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    program = tmp_path / "packaged"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: program)
    assert go.find_toolchain() == program
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: None)
    assert go.find_toolchain() == launcher
    launcher.write_bytes(b"\x7fELF")
    assert go.find_toolchain() == launcher


def test_one_that_is_too_old_is_taken_only_if_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, version in (("system", "go1.19.8"), ("packaged", "go1.24.1")):
        program = tmp_path / name / "bin" / "go"
        program.parent.mkdir(parents=True)
        program.write_bytes(b"\x7fELF")
        program.chmod(0o755)
        (tmp_path / name / "VERSION").write_text(f"{version}\ntime 2023-04-04T00:00:00Z\n")
    old, new = tmp_path / "system/bin/go", tmp_path / "packaged/bin/go"
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: new)
    assert go.find_toolchain() == new
    monkeypatch.setattr(go, "_packaged_toolchain", lambda: None)
    assert go.find_toolchain() == old


async def test_a_build_that_fails_with_one_that_is_too_old_says_so(
    write: Write, page_of: PageOf, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "old" / "bin" / "go"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 'main.go:3:8: package log/slog is not in GOROOT'\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "old" / "VERSION").write_text("go1.19.8")
    monkeypatch.setattr(go, "find_toolchain", lambda: program)
    write("pages/a/main.go", HELLO)
    page = page_of("a")
    with pytest.raises(BuildError, match="not in GOROOT") as caught:
        await pipeline.build(page, await pipeline.read(page, []))
    assert f"{program} is Go 1.19; the worker package needs 1.21" in caught.value.remedy
    assert str(caught.value.location) == "pages/a/main.go:3:8"


def test_prod_keeps_what_a_debugger_reads(module: Page, project: Project) -> None:
    dev = by_name("go").inputs(module, project, [])
    prod = by_name("go").inputs(module, Project(project.root, "prod"), [])
    assert "-s -w" in dev.facts["flags"] and "-s -w" not in prod.facts["flags"]
