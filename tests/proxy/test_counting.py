"""What a proxy counts: every request once, by status and duration, without a message for each."""

from __future__ import annotations

from collections.abc import Callable

from tests.proxy.rig import Proxy, Worker, get, ok, page, post
from tqserver.wire.messages import Counters, Cut, Leave, RouteCount

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def counted(proxy: Proxy, name: str, until: Callable[[RouteCount], bool]) -> RouteCount:
    """Add up what is said of a page until it is as it should be; that never happening is the failure."""
    total = RouteCount(name, 0, 0, 0, 0, codes=[0] * 6, durations=[0] * 17)
    while not until(total):
        for row in proxy.hear(Counters).routes:
            if row.page == name:
                total = RouteCount(
                    name,
                    total.requests + row.requests,
                    total.failures + row.failures,
                    row.in_flight,
                    row.waiting,
                    total.cut + row.cut,
                    [a + b for a, b in zip(total.codes, row.codes or [0] * 6, strict=True)],
                    [a + b for a, b in zip(total.durations, row.durations or [0] * 17, strict=True)],
                    total.seconds + row.seconds,
                )
    return total


def answered(count: int) -> Callable[[RouteCount], bool]:
    return lambda total: sum(total.codes) >= count


def test_each_answer_counts_once_by_the_class_of_its_status(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="classes"))
    client = proxy.connect()
    for status in (b"200 OK", b"204 No Content", b"301 Moved", b"404 Not Found", b"500 Oh"):
        client.send(get())
        worker.serve(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
        client.head()
    total = counted(proxy, "classes", answered(5))
    assert total.codes == [0, 0, 2, 1, 1, 1]
    assert sum(total.durations) == total.requests == 5
    assert total.failures == 0  # a page's own 500 is an answer
    assert 0 < total.seconds < 5


def test_what_the_proxy_answers_in_the_workers_place_counts_with_its_status(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="place"))
    client = proxy.connect().send(post(b"x"))
    connection = worker.accept()
    connection.head()
    connection.close()
    assert client.response().status == 502
    total = counted(proxy, "place", answered(1))
    assert (total.codes, total.failures) == ([0, 0, 0, 0, 0, 1], 1)


def test_a_request_that_no_page_answers_counts_for_nobody(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="users", pattern="/users"))
    assert proxy.connect().send(get("/nowhere")).response().status == 404
    assert proxy.connect().send(b"GARBAGE\r\n\r\n").response().status == 400
    total = counted(proxy, "", answered(2))
    assert total.codes == [0, 0, 0, 0, 2, 0]


def test_a_client_that_leaves_before_there_is_an_answer(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="left"))
    client = proxy.connect().send(get())
    worker.accept().head()
    client.reset()
    assert counted(proxy, "left", answered(1)).codes == [1, 0, 0, 0, 0, 0]


def test_a_tunnel_counts_when_it_begins_and_never_again(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="tunnel"))
    client = proxy.connect().send(get("/", *UPGRADE))
    connection, _ = worker.serve(SWITCH)
    client.head()
    open_ = counted(proxy, "tunnel", answered(1))
    assert (open_.codes, open_.in_flight) == ([0, 1, 0, 0, 0, 0], 1)
    connection.close()
    client.close()
    proxy.connect().send(get())
    worker.serve(ok())
    after = counted(proxy, "tunnel", answered(1))
    assert after.codes == [0, 0, 1, 0, 0, 0]


def test_an_event_stream_counts_when_it_begins_and_never_again(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="stream"))
    client = proxy.connect().send(get())
    connection, _ = worker.serve(STREAM)
    client.until(b"data: 1")
    assert counted(proxy, "stream", answered(1)).in_flight == 1
    connection.close()
    client.until(b"0\r\n\r\n")
    proxy.connect().send(get())
    worker.serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    assert counted(proxy, "stream", answered(1)).codes == [0, 0, 0, 0, 1, 0]


def test_any_other_answer_counts_when_it_is_whole(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="whole"))
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    client.until(b"12345")
    begun = counted(proxy, "whole", lambda total: total.in_flight == 1)
    assert sum(begun.codes) == 0
    connection.send(b"67890")
    client.until(b"67890")
    assert counted(proxy, "whole", answered(1)).codes == [0, 0, 1, 0, 0, 0]


def test_an_answer_that_is_cut_short_is_counted_as_such(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, name="cut"))
    client = proxy.connect().send(get())
    worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    client.until(b"12345")
    proxy.route(page(name="cut"))
    proxy.tell(Cut(worker.number))
    assert client.is_ended()
    total = counted(proxy, "cut", answered(1))
    assert (total.cut, total.codes) == (1, [0, 0, 1, 0, 0, 0])


def test_a_page_without_news_is_not_named(proxy: Proxy, worker: Worker, other: Worker) -> None:
    """A thousand pages that nobody asks make no message longer."""
    proxy.route(page(worker, name="quiet"), page(other, name="busy", pattern="/busy"))
    for path, asked in (("/", worker), ("/busy", other)):
        proxy.connect().send(get(path))
        asked.serve(ok())
    counted(proxy, "quiet", answered(1))
    proxy.connect().send(get("/busy"))
    other.serve(ok())
    while True:
        said = proxy.hear(Counters)
        assert "quiet" not in {row.page for row in said.routes}
        if any(row.page == "busy" and row.codes for row in said.routes):
            break


def test_a_proxy_that_leaves_tells_its_last_counts(own_proxy: Proxy, worker: Worker) -> None:
    client = own_proxy.connect().send(get())
    worker.accept()
    own_proxy.tell(Leave(10.0))
    worker.serve(ok())
    client.response()
    assert counted(own_proxy, "index", answered(1)).codes == [0, 0, 1, 0, 0, 0]
