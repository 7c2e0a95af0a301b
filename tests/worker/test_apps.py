"""Pages that are ASGI or WSGI apps."""

from __future__ import annotations

import http.client

import pytest

from tests.worker.played import PlayedControl, Start

FASTAPI = """
    from fastapi import FastAPI, WebSocket

    app = FastAPI()

    @app.get("/")
    def root():
        return {"at": "root"}

    @app.get("/items/{item}")
    async def item(item: int):
        return {"item": item}

    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text("heard " + await socket.receive_text())
        await socket.close()
"""


def test_fastapi_routes_start_at_the_page(start: Start) -> None:
    page = start("api", {"main.py": FASTAPI})
    assert page.get("/api").json == {"at": "root"}
    assert page.get("/api/").json == {"at": "root"}
    assert page.get("/api/items/7").json == {"item": 7}
    assert page.get("/api/items/x").status == 422
    assert page.get("/api/nothing").status == 404
    assert "/api/openapi.json" in page.get("/api/docs").text
    assert page.get("/api/openapi.json").status == 200


def test_endpoints_of_an_app_may_be_called_get(start: Start) -> None:
    source = """
        from fastapi import FastAPI
        app = FastAPI()
        @app.get("/")
        def get():
            return "app"
    """
    assert start("api", {"main.py": source}).get("/api").json == "app"


def test_fastapi_as_the_index(start: Start) -> None:
    page = start("index", {"main.py": FASTAPI})
    assert page.get("/").json == {"at": "root"}
    assert page.get("/items/7").json == {"item": 7}


def test_fastapi_below_a_parameter_starts_at_the_static_part(start: Start) -> None:
    source = """
        from fastapi import FastAPI
        app = FastAPI()
        @app.get("/{user}/posts")
        def posts(user: str):
            return {"user": user}
    """
    page = start("users/[user]", {"main.py": source})
    assert page.get("/users/ada/posts").json == {"user": "ada"}


def test_a_websocket(start: Start) -> None:
    page = start("api", {"main.py": FASTAPI})
    sock = page.raw(
        """
        GET /api/echo HTTP/1.1
        Host: page
        Connection: Upgrade
        Upgrade: websocket
        Sec-WebSocket-Version: 13
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==

        """
    )
    response = http.client.HTTPResponse(sock)
    response.begin()
    assert response.status == 101
    assert response.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
    sock.sendall(b"\x81\x82\0\0\0\0hi")  # a masked text frame
    assert response.fp.read(10) == b"\x81\x08heard hi"
    response.close()
    sock.close()


ASGI = {
    "a function": """
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                raise RuntimeError("no lifespan here")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"asgi " + scope["root_path"].encode()})
    """,
    "an object, named as Django does": """
        class App:
            async def __call__(self, scope, receive, send):
                if scope["type"] == "lifespan":
                    return
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"asgi " + scope["root_path"].encode()})
        application = app = App()
    """,
    "a wrapper that is not async": """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        def root(request):
            return PlainTextResponse("asgi " + request.scope["root_path"])
        inner = Starlette(routes=[Route("/", root)])
        def app(scope, receive, send):
            return inner(scope, receive, send)
    """,
}


@pytest.mark.parametrize("kind", ASGI)
def test_kinds_of_asgi_apps(start: Start, kind: str) -> None:
    page = start("deep/api", {"main.py": ASGI[kind]})
    assert page.get("/deep/api").text == "asgi /deep/api"
    assert page.stop() == 0
    assert "Traceback" not in page.output()


WSGI = """
    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} {environ['QUERY_STRING']} ".encode(), body]
"""


def test_a_wsgi_app(start: Start) -> None:
    page = start("flask", {"main.py": WSGI})
    assert page.request("POST", "/flask/a?b=c", b"sent").text == "/flask /a b=c sent"
    assert page.get("/flask").text == "/flask /  "
    assert page.stop() == 0


def test_an_exception_of_an_app_is_in_the_log_and_an_answer(start: Start) -> None:
    source = """
        from fastapi import FastAPI
        app = FastAPI()
        @app.get("/")
        async def root():
            raise ValueError("broken")
    """
    page = start("api", {"main.py": source})
    assert page.get("/api").status == 500
    assert "main.py" in page.output("ValueError: broken")


def test_logging_that_a_page_has_set_up_stays(start: Start, control: PlayedControl) -> None:
    source = """
        import logging
        logging.basicConfig(filename="page.log", filemode="w", level=logging.INFO, format="%(message)s")
        def get():
            logging.info("called")
    """
    start("hello", {"main.py": source}).get("/hello")
    assert (control.project / "page.log").read_text() == "called\n"


LIFESPAN = """
    from contextlib import asynccontextmanager
    from fastapi import FastAPI, Request

    @asynccontextmanager
    async def lifespan(app):
        print("startup")
        yield {"given": ["by startup"]}
        print("shutdown")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def root(request: Request):
        print("request")
        return request.state.given
"""


def test_lifespan_in_order(start: Start) -> None:
    page = start("api", {"main.py": LIFESPAN})
    assert page.output() == "startup\n"
    assert page.get("/api").json == ["by startup"]
    assert page.stop() == 0
    assert page.output("shutdown") == "startup\nrequest\nshutdown\n"


def test_a_failing_startup_is_the_pages_error(control: PlayedControl) -> None:
    control.write("api", {"main.py": LIFESPAN.replace('print("startup")', 'raise ValueError("no database")')})
    page = control.fork(control.build("api"))
    failed = page.failed()
    assert failed.message == "the app's startup failed: ValueError: no database"
    assert 'main.py", line 7, in lifespan' in failed.output
    assert page.wait() == 1
    assert "ValueError: no database" in page.output()


def test_a_shutdown_that_hangs_does_not_hold_the_exit(start: Start) -> None:
    source = LIFESPAN.replace('print("shutdown")', "import asyncio; await asyncio.Event().wait()")
    page = start("api", {"main.py": source}, shutdown_grace_seconds=0.1)
    assert page.stop() == 0


AMBIGUOUS = {
    "nothing": ("x = 1\n", "it must define something that answers a request"),
    "only a foreign get": ("from operator import call as get\n", "it must define something that answers a request"),
    "two styles": (
        "def get():\n    pass\ndef handler(request):\n    pass\n",
        "it defines more than one thing to answer with: get(), handler()",
    ),
    "two apps": (
        "async def app(scope, receive, send): ...\nasync def application(scope, receive, send): ...\n",
        "it defines both app and application",
    ),
    "an app that is none": ("app = 3\n", "app is neither an ASGI app nor a WSGI app, but int"),
    "a function of two": (
        "def get(request, id):\n    pass\n",
        "get(request, id) cannot be called with a request",
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_a_page_that_is_no_page(control: PlayedControl, case: str) -> None:
    source, message = AMBIGUOUS[case]
    control.write("odd", {"main.py": source})
    page = control.fork(control.build("odd"))
    failed = page.failed()
    assert failed.message == message
    assert failed.file == str(control.project / "pages/odd/main.py")
    assert failed.remedy
    assert page.wait() == 1
    assert message in page.output()
