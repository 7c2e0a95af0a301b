"""The files of a page's ``public/``: served by the proxy, whatever its worker does, and nothing else is."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proxy.rig import LARGE, STYLE, Proxy, Worker, get, ok, post, with_files
from tests.proxy.test_counting import answered, counted
from tqserver.proxy.public import PublicDirectory
from tqserver.wire.http1 import RequestHead, parse_request_head
from tqserver.wire.messages import Acknowledged

# --- which name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "target", "name"),
    [
        ("/", "/style.css", b"style.css"),
        ("/", "/a/b.css?v=1", b"a/b.css"),
        ("/a", "/a/style.css", b"style.css"),
        ("/a/[id]", "/a/7/style.css", b"style.css"),
        ("/a/[...rest]", "/a/b/style.css", b"b/style.css"),
        ("/", "/caf%C3%A9%20au%20lait.txt", "café au lait.txt".encode()),
        ("/", "//a/./x/../b.css", b"a/b.css"),
        ("/", "/%2e%2e%2fx", None),  # refused by the table before
        ("/", "/%252e%252e/x", b"%2e%2e/x"),
        ("/", "/.well-known/security.txt", b".well-known/security.txt"),
        ("/", "/.env", None),
        ("/", "/a/.git/config", None),
        ("/", "/%2Eenv", None),
        ("/", "/", None),
        ("/a", "/a", None),
        ("/", "/style.css/", None),
    ],
)
def test_what_a_path_asks_for(pattern: str, target: str, name: bytes | None) -> None:
    request = parse_request_head(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert PublicDirectory("/p/public", pattern).name_of(request) == name


_PIECES = st.sampled_from(
    [b"/", b".", b"..", b"a", b"%2e", b"%2F", b"%5c", b"\\", b"%00", b"%25", b"%c0%af", b";", b"~", b"\xff"]
)


@given(st.lists(_PIECES, max_size=12), st.sampled_from(["/", "/a", "/a/[id]", "/[...rest]"]))
def test_whatever_is_asked_for_a_name_leads_down_and_to_nothing_hidden(pieces: list[bytes], pattern: str) -> None:
    request = RequestHead(b"GET", b"/" + b"".join(pieces), 1, b"", 0)
    name = PublicDirectory("/p/public", pattern).name_of(request)
    if name is not None:
        assert b"\0" not in name
        assert all(part and not part.startswith(b".") for part in name.split(b"/"))


# --- answers ----------------------------------------------------------------------------------------------


def test_a_file_is_answered_whole(site: Proxy, public: Path) -> None:
    response = site.connect().send(get("/style.css")).response()
    assert (response.status, response.body) == (200, STYLE)
    assert response.head["Content-Type"] == b"text/css; charset=utf-8"
    assert response.head["Cache-Control"] == b"no-cache"
    assert response.head["Accept-Ranges"] == b"bytes"
    assert response.head["Vary"] == b"Accept-Encoding"
    assert response.head["X-Content-Type-Options"] == b"nosniff"
    assert "Date" in response.head and "X-Request-Id" in response.head and "Last-Modified" in response.head


def test_what_is_no_file_is_the_workers_to_answer(site: Proxy, worker: Worker, public: Path) -> None:
    os.mkfifo(public / "pipe")
    (public / ".env").write_text("SECRET=1")
    (public / ".git").mkdir()
    (public / ".git/config").write_text("secret")
    client = site.connect()
    for path in (
        "/",
        "/nothing.css",
        "/deep",
        "/deep/",
        "/style.css/",
        "/style.css/x",
        "/pipe",
        "/.env",
        "/.git/config",
    ):
        client.send(get(path))
        _, head = worker.serve(ok(b"worker"))
        assert head.line == f"GET {path} HTTP/1.1".encode()
        assert client.response().body == b"worker"
    client.send(post(b"x").replace(b"POST / ", b"POST /style.css "))
    connection, _ = worker.serve(ok(b"posted"))
    assert connection.exactly(1) == b"x"
    assert client.response().body == b"posted"


def test_names_that_lead_elsewhere(site: Proxy, worker: Worker, public: Path, tmp_path: Path) -> None:
    """A link to a file of the directory is a name for it; one to what is outside or hidden is none."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "pages/index/public-not").mkdir()
    (tmp_path / "pages/index/public-not/x").write_text("secret")
    (public / ".hidden").write_text("secret")
    (public / "same.css").symlink_to("deep/../style.css")
    client = site.connect()
    assert client.send(get("/same.css")).response().body == STYLE
    for number, target in enumerate(
        ["/etc/passwd", "../../../secret", str(tmp_path / "secret"), ".hidden", "../public-not/x", "self", "/dev/zero"]
    ):
        (public / f"link{number}").symlink_to(target)
    (public / "self").symlink_to("self")
    (public / "up").symlink_to("..")
    for path in (*(f"/link{number}" for number in range(7)), "/self", "/up/public-not/x", "/up/../../secret"):
        client.send(get(path))
        if path.startswith("/up/../../"):
            assert client.response().status == 400
            continue
        worker.serve(ok(b"worker"))
        assert client.response().body == b"worker", path
    assert client.send(get("/up/public/style.css")).response().body == STYLE  # it is in it after all


@pytest.mark.parametrize(
    "target", ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/style.css%00.png", "/..%5csecret"]
)
def test_paths_that_could_be_read_in_two_ways(site: Proxy, target: str) -> None:
    assert site.connect().send(get(target)).response().status == 400


def test_the_directory_may_be_a_link_and_is_followed_at_each_request(
    proxy: Proxy, worker: Worker, tmp_path: Path
) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "app.js").write_text(version)
    public = tmp_path / "public"
    public.symlink_to("one")
    proxy.route(with_files(public, worker))
    client = proxy.connect()
    assert client.send(get("/app.js")).response().body == b"one"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(public)
    assert client.send(get("/app.js")).response().body == b"two"
    public.unlink()
    client.send(get("/app.js"))
    worker.serve(ok(b"worker"))
    assert client.response().body == b"worker"


def test_of_two_pages_the_deeper_one_has_the_name(proxy: Proxy, worker: Worker, other: Worker, tmp_path: Path) -> None:
    for name in ("index", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "style.css").write_text(name)
    (tmp_path / "index/only.css").write_text("only")
    proxy.route(
        with_files(tmp_path / "index", worker),
        with_files(tmp_path / "a", other, name="a", pattern="/a"),
    )
    client = proxy.connect()
    assert client.send(get("/style.css")).response().body == b"index"
    assert client.send(get("/a/style.css")).response().body == b"a"
    assert client.send(get("/b/../only.css")).response().body == b"only"
    client.send(get("/a/only.css"))
    other.serve(ok(b"worker"))
    assert client.response().body == b"worker"


def test_a_file_that_cannot_be_opened_is_an_error_with_its_reason(own_proxy: Proxy, public: Path) -> None:
    own_proxy.route(with_files(public), mode="dev")
    client = own_proxy.connect().send(get("/style.css"))
    assert client.response().status == 200
    own_proxy.hear(Acknowledged, version=own_proxy.retell())  # it has closed the file by now
    pid = own_proxy.process.pid
    used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    most = next(number for number in itertools.count() if number not in used)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    response = client.send(get("/style.css")).response()
    assert response.status == 500
    assert b"public: Too many open files" in response.body
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert client.send(get("/style.css")).response().status == 200


def test_edits_are_live_at_once(site: Proxy, public: Path) -> None:
    client = site.connect()
    first = client.send(get("/style.css")).response()
    (public / "style.css").write_bytes(STYLE.upper())
    again = client.send(get("/style.css", f"If-None-Match: {first.head['ETag'].decode()}")).response()
    assert (again.status, again.body) == (200, STYLE.upper())
    assert again.head["ETag"] != first.head["ETag"]


# --- conditions and ranges --------------------------------------------------------------------------------


def test_not_modified(site: Proxy) -> None:
    client = site.connect()
    first = client.send(get("/style.css")).response()
    for field in (
        f"If-None-Match: {first.head['ETag'].decode()}",
        f"If-Modified-Since: {first.head['Last-Modified'].decode()}",
    ):
        client.send(get("/style.css", field))
        head = client.head()
        assert head.line == b"HTTP/1.1 304 Not Modified"
        assert head["ETag"] == first.head["ETag"]
        assert head["Vary"] == b"Accept-Encoding"
        assert "Content-Length" not in head and "Content-Type" not in head
    assert client.send(get("/style.css", 'If-Match: "other"')).response().status == 412


def test_ranges(site: Proxy) -> None:
    client = site.connect()
    part = client.send(get("/deep/large.bin", "Range: bytes=1000000-2999999")).response()
    assert (part.status, part.head["Content-Range"]) == (206, b"bytes 1000000-2999999/3000017")
    assert part.body == LARGE[1000000:3000000]
    last = client.send(get("/deep/large.bin", "Range: bytes=-17", f"If-Range: {part.head['ETag'].decode()}")).response()
    assert (last.status, last.body) == (206, LARGE[-17:])
    behind = client.send(get("/deep/large.bin", "Range: bytes=3000017-")).response()
    assert (behind.status, behind.head["Content-Range"], behind.body) == (416, b"bytes */3000017", b"")
    for whole in ("Range: bytes=0-1,5-6", "Range: lines=1-2"):
        assert client.send(get("/style.css", whole)).response().status == 200
    changed = client.send(get("/style.css", "Range: bytes=0-1", 'If-Range: "other"')).response()
    assert (changed.status, changed.body) == (200, STYLE)


# --- compressed -------------------------------------------------------------------------------------------


def test_a_compressed_neighbour_is_answered_where_it_is_accepted(site: Proxy, public: Path) -> None:
    (public / "style.css.gz").write_bytes(gzip.compress(STYLE))
    client = site.connect()
    plain = client.send(get("/style.css")).response()
    assert plain.body == STYLE
    assert "Content-Encoding" not in plain.head
    packed = client.send(get("/style.css", "Accept-Encoding: gzip, br")).response()
    assert packed.head["Content-Encoding"] == b"gzip"
    assert packed.head["Content-Type"] == b"text/css; charset=utf-8"
    assert packed.head["ETag"] != plain.head["ETag"]
    assert gzip.decompress(packed.body) == STYLE
    (public / "style.css.br").write_bytes(b"as if by brotli")
    best = client.send(get("/style.css", "Accept-Encoding: gzip, br")).response()
    assert (best.head["Content-Encoding"], best.body) == (b"br", b"as if by brotli")
    assert client.send(get("/style.css", "Accept-Encoding: gzip;q=0, br;q=0")).response().body == STYLE
    itself = client.send(get("/style.css.gz", "Accept-Encoding: gzip")).response()
    assert itself.head["Content-Type"] == b"application/gzip"
    assert "Content-Encoding" not in itself.head


def test_a_compressed_neighbour_of_what_the_file_was_before_is_not(site: Proxy, public: Path) -> None:
    (public / "style.css.gz").write_bytes(gzip.compress(b"old"))
    compressed = (public / "style.css.gz").stat().st_mtime_ns
    os.utime(public / "style.css", ns=(compressed, compressed + 1))
    assert site.connect().send(get("/style.css", "Accept-Encoding: gzip")).response().body == STYLE


def test_a_compressed_neighbour_is_no_way_out(site: Proxy, public: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (public / "style.css.gz").symlink_to(tmp_path / "secret")
    assert site.connect().send(get("/style.css", "Accept-Encoding: gzip")).response().body == STYLE


# --- connections ------------------------------------------------------------------------------------------


def test_head(site: Proxy) -> None:
    client = site.connect()
    for path, length in (("/style.css", len(STYLE)), ("/deep/large.bin", len(LARGE))):
        client.send(get(path, "Range: bytes=0-1").replace(b"GET", b"HEAD"))
        head = client.head()
        assert head.line == b"HTTP/1.1 200 OK"
        assert int(head["Content-Length"]) == length
    assert client.send(get("/style.css")).response().body == STYLE


def test_a_large_file_arrives_whole_among_others(site: Proxy, worker: Worker) -> None:
    """Pipelined: a small one, the large one, a worker's answer, the large one again."""
    client = site.connect()
    client.send(
        get("/style.css") + get("/deep/large.bin") + get("/asked") + get("/deep/large.bin", "Connection: close")
    )
    assert client.response().body == STYLE
    assert hashlib.sha256(client.response().body).digest() == hashlib.sha256(LARGE).digest()
    worker.serve(ok(b"worker"))
    assert client.response().body == b"worker"
    last = client.response()
    assert last.head["Connection"] == b"close"
    assert last.body == LARGE
    assert client.rest() == b""


def test_no_byte_overtakes_another(site: Proxy, public: Path) -> None:
    """What the transport could not write yet goes first, whatever the kernel would take by then."""
    count = 12
    client = site.connect().send(get("/deep/large.bin") * count)
    site.hear(Acknowledged, version=site.retell())  # the first have filled what the kernel holds
    for _ in range(count):
        assert client.response().body == LARGE


def test_http_1_0(site: Proxy) -> None:
    client = site.connect().send(b"GET /deep/large.bin HTTP/1.0\r\n\r\n")
    head, body = client.head(), client.rest()
    assert (head["Connection"], body) == (b"close", LARGE)


def test_a_body_of_a_get_is_not_taken_for_the_next_request(site: Proxy) -> None:
    client = site.connect()
    client.send(get("/style.css", "Content-Length: 60") + get("/deep/large.bin"))
    response = client.response()
    assert (response.head["Connection"], response.body) == (b"close", STYLE)
    assert client.rest() == b""


def test_a_half_closed_client_gets_all_of_it(site: Proxy) -> None:
    client = site.connect().send(get("/deep/large.bin")).half_close()
    assert client.response().body == LARGE
    assert client.rest() == b""


def test_a_page_without_a_worker_serves_its_files(proxy: Proxy, public: Path) -> None:
    proxy.route(with_files(public))
    assert proxy.connect().send(get("/style.css")).response().body == STYLE


def test_each_answer_counts_once(proxy: Proxy, public: Path) -> None:
    proxy.route(with_files(public, name="files"))
    client = proxy.connect()
    for field in ("X: 1", "Range: bytes=0-1", 'If-Match: "other"', "Range: bytes=900-"):
        client.send(get("/style.css", field)).response()
    assert counted(proxy, "files", answered(4)).codes == [0, 0, 2, 0, 2, 0]
