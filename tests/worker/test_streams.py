"""Bodies in both directions: nothing is collected, nothing is cut, and an end is noticed on both sides."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.worker.played import Child, Start

GATE = """
    import asyncio
    gate = asyncio.Event()
    async def post():
        gate.set()
"""


def receive_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        part = sock.recv(65536)
        assert part, received
        received += part
    return received


def test_a_streamed_response_arrives_part_by_part(start: Start) -> None:
    source = (
        GATE
        + """
    async def get():
        yield "first"
        await gate.wait()
        yield "second"
    """
    )
    page = start("stream", {"main.py": source})
    sock = page.raw("GET /stream HTTP/1.1\nHost: page\n\n")
    receive_until(sock, b"first\r\n")
    assert page.request("POST", "/stream").status == 204
    assert receive_until(sock, b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
    sock.close()


def test_server_sent_events(start: Start) -> None:
    source = """
        from tqserver.page import sse
        def get():
            return sse(["one", "two\\nlines"])
        async def post():
            async def events():
                yield "async"
            return sse(events())
    """
    page = start("stream", {"main.py": source})
    answer = page.get("/stream")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.text == "data: one\n\ndata: two\ndata: lines\n\n"
    assert page.request("POST", "/stream").text == "data: async\n\n"


def test_a_request_body_is_read_as_it_comes(start: Start) -> None:
    source = """
        async def post(request):
            async for part in request.stream():
                yield str(len(part)) + "."
    """
    page = start("stream", {"main.py": source})
    sock = page.raw("POST /stream HTTP/1.1\nHost: page\nTransfer-Encoding: chunked\n\n3\nabc\n")
    receive_until(sock, b"3.\r\n")
    sock.sendall(b"2\r\nde\r\n0\r\n\r\n")
    assert receive_until(sock, b"0\r\n\r\n").startswith(b"2\r\n2.\r\n")
    sock.close()


def test_a_large_body_passes_whole_both_ways(start: Start) -> None:
    source = """
        async def post(request):
            async for part in request.stream():
                yield part
    """
    page = start("stream", {"main.py": source})
    body = os.urandom(8 * 1024 * 1024)
    head = f"POST /stream HTTP/1.1\nHost: page\nContent-Length: {len(body)}\n\n"
    with page.raw(head) as sock, ThreadPoolExecutor() as threads:
        sending = threads.submit(sock.sendall, body)  # it may wait for what is read here
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.read() == body
        sending.result()


def test_a_form_with_a_file(start: Start) -> None:
    source = """
        async def post(request):
            form = await request.form()
            return {"name": form["name"], "file": (await form["file"].read()).decode()}
    """
    body = (
        b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nada\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\ntext\r\n--x--\r\n'
    )
    page = start("form", {"main.py": source})
    answer = page.request("POST", "/form", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.json == {"name": "ada", "file": "text"}


def test_a_stream_that_breaks_is_seen_to_be_cut(start: Start) -> None:
    source = """
        async def get():
            yield "first"
            raise ValueError("in the middle")
    """
    page = start("stream", {"main.py": source})
    with pytest.raises(http.client.IncompleteRead):
        page.get("/stream")
    page.output("ValueError: in the middle")


def test_a_client_that_goes_ends_the_stream(start: Start) -> None:
    source = """
        import asyncio
        async def get():
            try:
                while True:
                    yield "more"
                    await asyncio.sleep(0.01)
            finally:
                print("ended")
    """
    page = start("stream", {"main.py": source})
    sock = page.raw("GET /stream HTTP/1.1\nHost: page\n\n")
    receive_until(sock, b"more\r\n")
    sock.close()
    assert "Traceback" not in page.output("ended")


def test_a_client_that_goes_while_it_sends(start: Start) -> None:
    source = """
        from starlette.requests import ClientDisconnect
        async def post(request):
            try:
                return str(len(await request.body()))
            except ClientDisconnect:
                print("gone")
                raise
    """
    page = start("stream", {"main.py": source})
    page.raw("POST /stream HTTP/1.1\nHost: page\nContent-Length: 1000\n\nabc").close()
    page.output("gone")
    assert page.request("POST", "/stream", b"abc").text == "3"
    assert "Traceback" not in page.output()


def test_a_file(start: Start) -> None:
    source = """
        from pathlib import Path
        from tqserver.page import FileResponse
        def get():
            return FileResponse(Path(__file__).parent / "data.bin")
    """
    page = start("file", {"main.py": source, "data.bin": "0123456789"})
    assert page.get("/file").text == "0123456789"
    part = page.get("/file", Range="bytes=2-4")
    assert (part.status, part.text) == (206, "234")
    head = page.request("HEAD", "/file")
    assert (head.headers["content-length"], head.body) == ("10", b"")


# --- the end of a worker ----------------------------------------------------------------------------------


def hold(page: Child) -> socket.socket:
    """Return a connection with a request in flight."""
    sock = page.raw("GET /stream HTTP/1.1\nHost: page\n\n")
    receive_until(sock, b"first\r\n")
    return sock


def test_sigterm_finishes_what_is_in_flight(start: Start) -> None:
    source = """
        import asyncio, os
        async def get():
            yield "first"
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            yield "last"
    """
    page = start("stream", {"main.py": source})
    sock = hold(page)
    os.kill(page.pid, signal.SIGTERM)
    assert page.spec is not None
    with open(f"{page.spec.project}/go", "w"):
        pass
    assert receive_until(sock, b"0\r\n\r\n").startswith(b"4\r\nlast\r\n")
    assert page.wait() == 0
    sock.close()
    assert not os.path.exists(page.spec.socket)


def test_an_idle_connection_does_not_hold_the_exit(start: Start) -> None:
    page = start("hello", {"main.py": "def get():\n    return 'x'\n"})
    connection = page.connection()
    connection.request("GET", "/hello")
    connection.getresponse().read()
    assert page.stop() == 0
    assert connection.sock.recv(1) == b""
    connection.close()


def test_neither_a_stream_nor_a_thread_holds_the_exit_beyond_the_grace(start: Start) -> None:
    source = """
        import asyncio, threading
        async def get():
            yield "first"
            await asyncio.Event().wait()
        def post():
            print("waits")
            threading.Event().wait()
    """
    page = start("stream", {"main.py": source}, shutdown_grace_seconds=0.1)
    stream, thread = hold(page), page.raw("POST /stream HTTP/1.1\nHost: page\nContent-Length: 0\n\n")
    page.output("waits")
    assert page.stop() == 0
    stream.close()
    thread.close()


def test_a_worker_that_ends_runs_its_exit_handlers(start: Start) -> None:
    source = "import atexit\natexit.register(print, 'bye')\ndef get():\n    pass\n"
    page = start("hello", {"main.py": source})
    assert page.stop() == 0
    assert page.output("bye") == "bye\n"
