"""Page code: by content, under the author's names, and what is told of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker.played import PlayedControl, Start
from tqserver.wire.messages import Loaded

HANDLER = "def get():\n    pass\n"


def test_code_comes_from_the_artifact_and_its_names_from_the_page(start: Start, control: PlayedControl) -> None:
    source = """
        import inspect, traceback
        def get():
            return {"file": __file__, "source": inspect.getsource(get)}
        def post():
            raise ValueError("at this line")
    """
    page = start("hello", {"main.py": source})
    file = control.project / "pages/hello/main.py"
    file.write_text("# a later revision\n" * 20)
    answer = page.get("/hello").json
    assert isinstance(answer, dict)
    assert answer["file"] == str(file)
    assert answer["source"].startswith("def get():")
    assert 'raise ValueError("at this line")' in page.request("POST", "/hello").text


def test_an_edit_of_one_length_in_one_second_runs_new_code(
    control: PlayedControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    main = "import helper\nimport lib.shared\ndef get():\n    return helper.text + lib.shared.text\n"
    shared = control.project / "lib/shared.py"
    shared.parent.mkdir()
    answers = []
    for text in ("old", "new"):
        control.write("hello", {"main.py": main, "helper.py": f"text = '{text}'\n"})
        shared.write_text(f"text = '{text}'\n")
        for file in (shared, control.project / "pages/hello/helper.py"):
            os.utime(file, (1_000_000, 1_000_000))
        page = control.fork(control.build("hello"))
        page.ready()
        answers.append(page.get("/hello").text)
    assert answers == ["oldold", "newnew"]
    assert list(control.project.rglob("__pycache__")) == []


def test_imports_of_all_kinds(start: Start, control: PlayedControl) -> None:
    files = {
        "lib/__init__.py": "",
        "lib/util.py": "from . import deeper\nname = __name__\n",
        "lib/deeper.py": "",
        "namespace/inner.py": "",
        "vendor/added.py": "",
    }
    for name, text in files.items():
        path = control.project / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    source = """
        import pkgutil
        import sys
        import sibling
        import package.part
        import lib.util
        import namespace.inner
        sys.path.append("vendor")
        import added
        from importlib import resources
        def get():
            return {
                "data": pkgutil.get_data("package", "data.txt").decode(),
                "resource": resources.files("package").joinpath("data.txt").read_text(),
                "names": [module.name for module in pkgutil.iter_modules(package.__path__)],
                "main": sys.modules["main"].__name__,
            }
    """
    page_files = {
        "main.py": source,
        "sibling.py": "",
        "package/__init__.py": "",
        "package/part.py": "",
        "package/sub/__init__.py": "",
        "package/data.txt": "data",
    }
    control.write("hello", page_files)
    page = control.fork(control.build("hello"))
    ready = page.ready()
    loaded = ("lib/__init__.py", "lib/util.py", "lib/deeper.py", "namespace/inner.py", "vendor/added.py")
    assert ready.files == [str(control.project / name) for name in loaded]
    assert page.get("/hello").json == {
        "data": "data",
        "resource": "data",
        "names": ["part", "sub"],
        "main": "main",
    }


def test_a_page_module_goes_before_an_installed_one(start: Start) -> None:
    source = "import mailbox\ndef get():\n    return mailbox.text\n"
    assert start("hello", {"main.py": source, "mailbox.py": "text = 'own'\n"}).get("/hello").text == "own"


def test_what_is_imported_later_is_told_later(control: PlayedControl) -> None:
    (control.project / "late.py").write_text("text = 'late'\n")
    page = control.start("hello", {"main.py": "def get():\n    import late\n    return late.text\n"})
    assert page.get("/hello").text == "late"
    assert page.expect(Loaded).files == [str(control.project / "late.py")]


def test_an_environment_inside_the_project_is_not_the_projects(control: PlayedControl) -> None:
    packages = control.project / ".venv/lib/python3.11/site-packages"
    (packages / "installed").mkdir(parents=True)
    (packages / "installed/__init__.py").write_text("")
    (packages / "installed/part.py").write_text("")
    source = f"import sys\nsys.path.append({str(packages)!r})\nimport installed.part\n{HANDLER}"
    control.write("hello", {"main.py": source})
    ready = control.fork(control.build("hello")).ready()
    assert (ready.files, ready.modules) == ([], ["installed", "installed.part"])


def test_the_working_directory_and_the_environment(start: Start, control: PlayedControl) -> None:
    source = "import os\ndef get():\n    return [os.getcwd(), os.environ['TQ_PAGE']]\n"
    assert start("hello", {"main.py": source}).get("/hello").json == [str(control.project), "hello"]


def test_a_project_file_does_not_shadow_what_the_server_needs(control: PlayedControl) -> None:
    (control.project / "jinja2.py").write_text("raise AssertionError\n")
    control.start("hello", {"main.py": HANDLER})


# --- what is wrong with a page ----------------------------------------------------------------------------

BROKEN = {
    "syntax": ("x = 1\nif x\n", "SyntaxError: expected ':'", "main.py", 2),
    "raise": ("x = 1\n\nraise ValueError('no')\n", "ValueError: no", "main.py", 3),
    "raise below": ("import json\njson.loads('[')\n", "JSONDecodeError: Expecting value", "main.py", 2),
    "exit": ("import sys\nsys.exit(3)\n", "the page called sys.exit(3) while it was imported", "main.py", 2),
    "interrupt": ("raise KeyboardInterrupt\n", "KeyboardInterrupt", "main.py", 1),
    "missing": ("import yaml_\n", "ModuleNotFoundError: No module named 'yaml_'", "main.py", 1),
    "sibling": ("import sibling\n", "ValueError: in sibling", "sibling.py", 1),
    "bytes": ("x = '\0'\n", "SyntaxError: source code string cannot contain null bytes", "main.py", 0),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_page_that_does_not_load(control: PlayedControl, case: str) -> None:
    source, message, file, line = BROKEN[case]
    control.write("broken", {"main.py": source, "sibling.py": "raise ValueError('in sibling')\n"})
    page = control.fork(control.build("broken"))
    failed = page.failed()
    assert failed.message.startswith(message)
    assert (failed.file, failed.line) == (str(control.project / "pages/broken" / file), line)
    assert "tqserver/worker" not in failed.output
    assert page.wait() == 1
    assert failed.output in page.output()


def test_a_missing_module_has_a_remedy(control: PlayedControl) -> None:
    control.write("broken", {"main.py": "import PIL.Image\n"})
    failed = control.fork(control.build("broken")).failed()
    assert "pip install pillow), then tqserver reload /broken;" in failed.remedy


@pytest.mark.parametrize(
    ("source", "may_pass"),
    [
        ("if x\n", False),
        ("x = y\n", False),
        ("from json import nothing\n", False),
        ("x = 1\n", False),  # nothing to answer with
        ("import not_installed_yet\n", True),
        ("open('not there yet')\n", True),
        ("import socket\nsocket.create_connection(('127.0.0.1', 1))\n", True),
        ("raise RuntimeError('the database is not up')\n", True),
        ("import sys\nsys.exit(1)\n", True),
    ],
)
def test_what_may_pass_by_itself_is_told_from_what_will_not(
    control: PlayedControl, source: str, may_pass: bool
) -> None:
    control.write("broken", {"main.py": source})
    assert control.fork(control.build("broken")).failed().may_pass is may_pass


def test_project_files_are_told_even_if_one_is_broken(control: PlayedControl) -> None:
    broken = control.project / "broken.py"
    broken.write_text("if x\n")
    control.write("hello", {"main.py": "import broken\n"})
    page = control.fork(control.build("hello"))
    failed = page.failed()
    assert (failed.file, failed.line) == (str(broken), 1)
    assert page.loaded == [str(broken)]


def test_a_cause_is_shown_with_it(control: PlayedControl) -> None:
    source = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('so') from error\n"
    control.write("broken", {"main.py": source})
    output = control.fork(control.build("broken")).failed().output
    assert output.index("ZeroDivisionError: division by zero") < output.index("ValueError: so")


def test_a_socket_that_cannot_be_made(control: PlayedControl, project: Path) -> None:
    control.write("hello", {"main.py": HANDLER})
    failed = control.fork(control.build("hello", socket=str(project / "no/such.sock"))).failed()
    assert failed.message.startswith("cannot listen on ")


# --- templates --------------------------------------------------------------------------------------------

TEMPLATES = {
    "main.py": """
        from tqserver.page import render
        def get(request):
            return render("page.html", name="<b>")
        async def post(request):
            return render("missing.html")
    """,
    "page.html": "{% extends 'base.html' %}{% block body %}hello {{ name }}{% endblock %}",
}


def test_templates_of_the_page_and_of_the_project(control: PlayedControl) -> None:
    base = control.project / "templates/base.html"
    base.parent.mkdir()
    base.write_text("<body>{% block body %}{% endblock %}</body>")
    page = control.start("hello", TEMPLATES)
    assert page.get("/hello").text == "<body>hello &lt;b&gt;</body>"
    assert page.expect(Loaded).files == [str(base)]
    base.write_text("a later revision")
    assert page.get("/hello").text == "<body>hello &lt;b&gt;</body>"


def test_a_missing_template_names_where_it_was_sought(control: PlayedControl) -> None:
    page = control.start("hello", TEMPLATES)
    text = page.request("POST", "/hello").text
    assert f"{control.project}/pages/hello and {control.project}/templates" in text


def test_an_error_in_a_template_names_its_file_and_line(control: PlayedControl) -> None:
    files = {
        "main.py": "from tqserver.page import render\ndef get():\n    return render('page.html')\n",
        "page.html": "one\n{% if %}\n",
    }
    page = control.start("syntax", files)
    assert f'File "{control.project}/pages/syntax/page.html", line 2' in page.get("/syntax").text
    page = control.start("runtime", {**files, "page.html": "one\n\n{{ missing.attribute }}\n"})
    text = page.get("/runtime").text
    assert f'File "{control.project}/pages/runtime/page.html", line 3' in text
    assert "UndefinedError: 'missing' is undefined" in text


def test_render_outside_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tqserver.page import render

    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.html").write_text("{{ word }}")
    assert bytes(render("alone.html", word="found").body) == b"found"


def test_an_exception_that_says_very_much_is_told_in_part(control: PlayedControl) -> None:
    control.write("page", {"main.py": "raise ValueError('begin' + 'x' * 3_000_000 + 'end')\n"})
    failed = control.fork(control.build("page")).failed()
    assert failed.message.startswith("ValueError: begin")
    assert failed.message.endswith("end")
    assert len(failed.message) + len(failed.output) < 100_000


def test_many_files_come_in_parts(control: PlayedControl) -> None:
    """A frame has a limit, which thousands of long names would be over."""
    names = [f"m{number}" for number in range(450)]
    for name in names:
        (control.project / f"{name}.py").write_text("")
    control.write("page", {"main.py": f"import {', '.join(names)}\n{HANDLER}"})
    page = control.fork(control.build("page"))
    files = [*page.expect(Loaded).files, *page.expect(Loaded).files]
    assert len(files) == 400
    files += page.ready().files
    assert files == [str(control.project / f"{name}.py") for name in names]
