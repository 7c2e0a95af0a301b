"""Heads and bodies, however they are split."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.wire.bodies import LAST_CHUNK, Body, ChunkedBody, EndlessBody, LengthBody, chunk
from tqserver.wire.http1 import (
    KEPT_HEAD_BYTES,
    BadMessage,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    head_end,
    parse_request_head,
    parse_response_head,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def fed(body: Body, parts: list[bytes]) -> tuple[bytes, bytes]:
    """Feed until done; return the content and what came behind it."""
    content, rest = b"", b""
    for part in parts:
        if body.done:
            rest += part
        else:
            content += body.feed(part)
    return content, body.rest + rest


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=50), cuts)
def test_the_end_of_a_head_is_found_however_it_is_split(rest: bytes, where: list[int]) -> None:
    data = b"GET / HTTP/1.1\r\nA: b\r\n\r\n" + rest
    received = b""
    for piece in pieces(data, where):
        searched = len(received)
        received += piece
        if end := head_end(received, searched):
            assert end == 24
            return
    raise AssertionError("not found")


@pytest.mark.parametrize("raw", [b"\x16\x03\x01", b"GET / HTTP/1.1\nA: b", b"GET /\rX", b"GET /\x00"])
def test_what_will_never_be_a_head(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        head_end(raw)


def test_a_request_head() -> None:
    raw = (
        b"POST /a?b HTTP/1.1\r\nhost: A:80\r\nX: 1\r\nContent-Length: 3\r\nConnection: close\r\n"
        b"Expect: 100-Continue\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\n\r\n"
    )
    head = parse_request_head(raw)
    assert (head.method, head.target, head.path, head.minor) == (b"POST", b"/a?b", b"/a", 1)
    assert (head.host, head.lines, head.content_length, head.codings) == (b"A:80", b"\r\nX: 1", 3, None)
    assert (head.keep_alive, head.expect, head.has_body) == (False, b"100-continue", True)
    assert head.forwarded == ((b"x-forwarded-for", b"1"), (b"x-forwarded-for", b"2"))
    assert head.size == len(raw)


REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"HEAD /b?c HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET /a HTTP/1.0\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET /#a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"BREW /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET  /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET /a xHTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET /a\r\nA: HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
    b"GET /a\r\nHost: a\r\nX: 1\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: x\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nX-Forwarded-For: y\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: now\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nDate: now\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: X, close\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: now\nContent-Length: 5\r\n\r\n",
)


def one_byte_else(raw: bytes, position: int, byte: int) -> bytes:
    changed = bytearray(raw)
    changed[position % len(raw)] = byte
    return bytes(changed)


def said(heads: tuple[bytes, ...]) -> st.SearchStrategy[list[tuple[bytes, list[int]]]]:
    """What comes on a connection: heads that are repeated, or nearly, and where each is split."""
    head = st.sampled_from(heads)
    nearly = st.builds(one_byte_else, head, st.integers(0, 200), st.sampled_from(b"\r\n\0 :1aG/"))
    followed = st.builds(bytes.__add__, head | nearly, st.sampled_from((b"", b"rest", b"\r\n\r\n", heads[0])))
    return st.lists(st.tuples(followed, cuts), max_size=8)


Reader = RequestReader | ResponseReader
Told = RequestHead | ResponseHead | int | None


def read(reader: Reader, parts: list[bytes]) -> Told:
    """Read as a connection does; return the head, the status of a refusal, or None if it is not whole."""
    received, searched = b"", 0
    for part in parts:
        received += part
        try:
            head = reader.read(received, searched)
        except BadMessage as refused:
            return refused.status
        if head is not None:
            return head
        searched = len(received)
    return None


def shown(told: Told) -> object:
    return (
        [getattr(told, name) for name in type(told).__slots__] if isinstance(told, RequestHead | ResponseHead) else told
    )


@given(said(REQUESTS) | said(RESPONSES), st.sampled_from((RequestReader, ResponseReader)))
def test_what_came_before_on_a_connection_changes_nothing(
    messages: list[tuple[bytes, list[int]]], kind: type[Reader]
) -> None:
    reader = kind()
    seen: list[tuple[Told, object]] = []
    for data, where in messages:
        parts = pieces(data, where)
        told = read(reader, parts)
        assert shown(told) == shown(read(kind(), parts))
        seen.append((told, shown(told)))
    for told, before in seen:
        assert shown(told) == before


@pytest.mark.parametrize(("reader", "heads"), [(RequestReader(), REQUESTS), (ResponseReader(), RESPONSES)])
def test_a_head_that_is_said_again_is_judged_once(reader: Reader, heads: tuple[bytes, ...]) -> None:
    first = reader.read(heads[0])
    assert first is not None
    assert reader.read(heads[0] + b"more") is first
    assert reader.read(heads[0][:-1]) is None
    assert reader.read(heads[1]) is not first
    long = heads[1][:-2] + b"X: " + b"x" * KEPT_HEAD_BYTES + b"\r\n\r\n"
    assert reader.read(long) is not reader.read(long)  # an idle connection stays small


def test_several_connection_fields_are_one() -> None:
    head = parse_request_head(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: Upgrade, y\r\nX: 1\r\nY: 2\r\nZ: 3\r\n"
        b"Upgrade: websocket\r\n\r\n"
    )
    assert head.lines == b"\r\nZ: 3"
    assert head.upgrade == b"websocket"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"G\x80T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / ICE/1.0\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://u@h/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_request_heads_that_are_refused(raw: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as refused:
        parse_request_head(raw)
    assert refused.value.status == status


def test_a_response_head() -> None:
    head = parse_response_head(
        b"HTTP/1.0 418 I'm a teapot\r\nServer: x\r\nDate: today\r\nContent-Length: 5\r\n"
        b"Connection: Keep-Alive, S\r\nS: 1\r\n\r\n"
    )
    assert (head.status, head.reason, head.lines) == (418, b" 418 I'm a teapot", b"\r\nServer: x")
    assert (head.content_length, head.chunked, head.date, head.keep_alive) == (5, False, b"today", True)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=10), cuts)
def test_chunks_however_they_are_split(contents: list[bytes], rest: bytes, where: list[int]) -> None:
    data = b"".join(map(chunk, contents)) + LAST_CHUNK + rest
    assert fed(ChunkedBody(), pieces(data, where)) == (b"".join(contents), rest)


@given(st.binary(max_size=40), st.binary(max_size=10), cuts)
def test_a_body_of_known_length(content: bytes, rest: bytes, where: list[int]) -> None:
    assert fed(LengthBody(len(content)), pieces(content + rest, where)) == (content, rest)


def test_a_body_that_ends_with_its_connection() -> None:
    assert fed(EndlessBody(), [b"a", b"b"]) == (b"ab", b"")


def test_extensions_and_trailers_are_dropped() -> None:
    assert fed(ChunkedBody(), [b"3 ;a=b;c\r\nabc\r\n00;x\r\nT: 1\r\nU: 2\r\n\r\nrest"]) == (b"abc", b"rest")


@pytest.mark.parametrize(
    "bad",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\naX\r\n",
        b"1" * 17 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"1;\x00\r\n",
        b"0\r\na: b\rc\r\n",
        b"0\r\n" + b"a: b\r\n" * 5000,
        b"0\r\n\n",
    ],
)
@pytest.mark.parametrize("step", [1, 10_000_000])
def test_chunks_that_are_refused(bad: bytes, step: int) -> None:
    body = ChunkedBody()
    with pytest.raises(BadMessage):
        for position in range(0, len(bad), step):
            body.feed(bad[position : position + step])


class Reference:
    """The same body, as llhttp reads it."""

    def __init__(self) -> None:
        self.content, self.is_done = b"", False

    def on_body(self, part: bytes) -> None:
        self.content += part

    def on_message_complete(self) -> None:
        self.is_done = True


@given(st.lists(st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b":", b" ", b"5"]), max_size=24))
def test_we_accept_no_chunks_that_llhttp_refuses_and_read_them_alike(tokens: list[bytes]) -> None:
    data = b"".join(tokens)
    ours = ChunkedBody()
    try:
        content = ours.feed(data)
    except BadMessage:
        return
    reference = Reference()
    parser = httptools.HttpRequestParser(reference)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(httptools.HttpParserError):
        parser.feed_data(data)
    if ours.done:
        assert reference.content == content
