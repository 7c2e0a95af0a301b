"""Pages made of functions."""

from __future__ import annotations

import pytest

from tests.worker.played import PlayedControl, Start

STYLES = {
    "sync": "def get():\n    return 'answer'\n",
    "async": "async def get():\n    return 'answer'\n",
    "sync with request": "def get(request):\n    return request.query_params['q']\n",
    "async with request": "async def get(request):\n    return request.query_params['q']\n",
    "handler": "def handler(request):\n    return request.query_params['q']\n",
    "lambda": "handler = lambda request: 'answer'\n",
    "partial": "import functools\ndef f(a, request):\n    return a\nget = functools.partial(f, 'answer')\n",
    "object": "class Page:\n    async def __call__(self, request):\n        return 'answer'\nget = Page()\n",
    "sync that returns a coroutine": "async def f():\n    return 'answer'\ndef get():\n    return f()\n",
    "from another module": "from shared import get\n",
    "beside a foreign get": "from operator import call as get\ndef handler(request):\n    return 'answer'\n",
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_of_functions(start: Start, style: str) -> None:
    page = start("hello", {"main.py": STYLES[style], "shared.py": "def get():\n    return 'answer'\n"})
    answer = page.get("/hello?q=answer")
    assert (answer.status, answer.text) == (200, "answer")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


RETURNED = {
    "'<b>'": (200, "text/html; charset=utf-8", b"<b>"),
    "{'a': [1, None]}": (200, "application/json", b'{"a":[1,null]}'),
    "[1, 2]": (200, "application/json", b"[1,2]"),
    "b'\\0\\1'": (200, "application/octet-stream", b"\0\1"),
    "None": (204, None, b""),
    "(part for part in ('a', b'b'))": (200, "application/octet-stream", b"ab"),
    "Response('teapot', 418)": (418, None, b"teapot"),
    "RedirectResponse('/there')": (307, None, b""),
    "JSONResponse({'a': 1}, 201)": (201, "application/json", b'{"a":1}'),
}


@pytest.mark.parametrize("returned", RETURNED)
def test_what_a_function_returns(start: Start, returned: str) -> None:
    source = f"from tqserver.page import *\nasync def get():\n    return {returned}\n"
    answer = start("hello", {"main.py": source}).get("/hello")
    assert (answer.status, answer.headers.get("content-type"), answer.body) == RETURNED[returned]


GENERATORS = {
    "sync": "def get():\n    yield 'a'\n    yield b'b'\n",
    "async": "async def get():\n    yield 'a'\n    yield b'b'\n",
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_is_streamed(start: Start, kind: str) -> None:
    answer = start("hello", {"main.py": GENERATORS[kind]}).get("/hello")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"ab"


def test_a_value_without_meaning_is_an_error_that_says_what_to_return(start: Start) -> None:
    page = start("hello", {"main.py": "def get():\n    return 3\n"})
    answer = page.get("/hello")
    assert answer.status == 500
    assert "TypeError: a page returned int; return a Response, str" in answer.text
    assert "TypeError: a page returned int" in page.output("TypeError")


def test_methods(start: Start) -> None:
    source = """
        def get(request):
            return request.method
        async def post(request):
            return await request.body()
    """
    page = start("hello", {"main.py": source})
    assert page.request("POST", "/hello", b"sent").body == b"sent"
    head = page.request("HEAD", "/hello")
    assert (head.status, head.headers["content-length"], head.body) == (200, "4", b"")
    options = page.request("OPTIONS", "/hello")
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    refused = page.request("DELETE", "/hello", headers={"Accept": "*/*"})
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def test_methods_may_be_defined_beyond_what_is_automatic(start: Start) -> None:
    source = """
        from tqserver.page import Response
        def get():
            raise AssertionError
        def head():
            return Response(headers={"X-Head": "own"})
        def options():
            return "own"
    """
    page = start("hello", {"main.py": source})
    assert page.request("HEAD", "/hello").headers["x-head"] == "own"
    assert page.request("OPTIONS", "/hello").text == "own"


def test_head_of_an_endless_stream_ends(start: Start) -> None:
    source = """
        async def get():
            while True:
                yield "more"
    """
    head = start("hello", {"main.py": source}).request("HEAD", "/hello")
    assert (head.status, head.body) == (200, b"")


PARAMETERS = [
    ("users/[id]", "/users/7", {"id": "7"}),
    ("users/[id]", "/users/7/posts/1", {"id": "7"}),
    ("users/[id]", "/users/J%C3%BCrg%20B", {"id": "Jürg B"}),
    ("users/[id]", "/users/caf%25C3", {"id": "caf%C3"}),
    ("users/[id]/[...rest]", "/users/7/a/b", {"id": "7", "rest": "a/b"}),
    ("static", "/static/below", {}),
]


@pytest.mark.parametrize(("page", "path", "expected"), PARAMETERS)
def test_path_parameters(start: Start, page: str, path: str, expected: dict[str, str]) -> None:
    source = "def get(request):\n    return dict(request.path_params)\n"
    assert start(page, {"main.py": source}).get(path).json == expected


def test_a_path_that_the_route_does_not_match_is_not_found(start: Start) -> None:
    source = "def get(request):\n    return dict(request.path_params)\n"
    assert start("users/[id]", {"main.py": source}).get("/users").status == 404


def test_a_sync_function_does_not_block_the_others(start: Start) -> None:
    source = """
        import threading
        opened = threading.Event()
        def get(request):
            opened.wait()
            return "waited"
        async def post():
            opened.set()
    """
    page = start("hello", {"main.py": source})
    waiting = page.raw("GET /hello HTTP/1.1\nHost: page\n\n")
    assert page.request("POST", "/hello").status == 204
    assert waiting.recv(65536).endswith(b"waited")
    waiting.close()


RAISING = """
def inner():
    raise ValueError("broken <here>")

def get():
    inner()
"""


def test_the_path_of_a_request_that_failed_is_logged_as_the_client_escaped_it(start: Start) -> None:
    page = start("hello", {"main.py": RAISING})
    page.get("/hello/%1b]0;title%07%0Afaked?q=1")
    assert "GET /hello/%1b]0;title%07%0Afaked [request" in page.output("broken")


def test_in_dev_an_exception_is_shown_without_our_frames(start: Start, control: PlayedControl) -> None:
    page = start("hello", {"main.py": RAISING})
    text = page.get("/hello", X_Request_Id="r-7").text
    file = control.project / "pages/hello/main.py"
    assert text.startswith(f'Traceback (most recent call last):\n  File "{file}", line 6, in get\n    inner()\n')
    assert text.rstrip().endswith("ValueError: broken <here>")
    assert "[request r-7]" in page.output("broken")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    page.get("/hello", X_Request_Id="r-8", traceparent=trace)
    assert f"[request r-8, trace {trace}]" in page.output("r-8")
    html = page.get("/hello", Accept="text/html")
    assert html.headers["content-type"].startswith("text/html")
    assert "broken &lt;here&gt;" in html.text


def test_a_foreign_site_learns_nothing_of_an_exception_in_dev(start: Start) -> None:
    page = start("hello", {"main.py": RAISING})
    answer = page.get("/hello", Accept="text/html", Host="evil.example")
    assert answer.status == 500
    assert "ValueError" not in answer.text
    assert "at localhost" in answer.text
    assert "ValueError: broken" in page.output("ValueError")


def test_in_prod_an_exception_is_a_request_id(start: Start) -> None:
    page = start("hello", {"main.py": RAISING}, mode="prod")
    answer = page.get("/hello", Accept="text/html", X_Request_Id="r-7")
    assert (answer.status, answer.text) == (500, "Internal Server Error\nrequest r-7\n")
    assert "ValueError: broken" in page.output("ValueError")


def test_an_http_exception_is_its_status(start: Start) -> None:
    source = """
        from tqserver.page import HTTPException
        def get():
            raise HTTPException(409, "taken", {"X-Why": "name"})
    """
    answer = start("hello", {"main.py": source}).get("/hello")
    assert (answer.status, answer.headers["x-why"], answer.text) == (409, "name", "taken\n")


def test_prints_are_in_the_log_at_once(start: Start) -> None:
    page = start("hello", {"main.py": "print('imported')\ndef get():\n    print('called')\n"})
    page.get("/hello")
    assert page.output("called") == "imported\ncalled\n"


def test_two_workers_have_different_chance(control: PlayedControl) -> None:
    source = "import random\nvalue = random.random()\ndef get():\n    return str(value)\n"
    one, two = (control.start("dice", {"main.py": source}) for _ in range(2))
    assert one.get("/dice").text != two.get("/dice").text


def test_an_upgrade_of_a_function_page_is_refused(start: Start) -> None:
    page = start("hello", {"main.py": "def get():\n    return 'x'\n"})
    sock = page.raw(
        """
        GET /hello HTTP/1.1
        Host: page
        Connection: Upgrade
        Upgrade: websocket
        Sec-WebSocket-Version: 13
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==

        """
    )
    assert sock.recv(65536).startswith(b"HTTP/1.1 403 ")
    sock.close()
