"""Workers that come, go, refuse and die: who waits, who is tried again, who is told what."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.proxy.rig import Proxy, Worker, get, ok, page, post
from tqserver.proxy.exchange import MOST_TRIES
from tqserver.wire.messages import Counters, Cut, Demand, Drained, Failure, Refused, RouteLimits

# --- a page without a worker ----------------------------------------------------------------------------


def test_a_request_waits_for_the_first_worker(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page())
    clients = [proxy.connect().send(get()) for _ in range(3)]
    assert proxy.hear(Demand) == Demand("index")
    proxy.route(page(worker))
    for _ in clients:
        worker.serve(ok())
    for client in clients:
        assert client.response().status == 200
    assert not proxy.has_heard(Demand)  # once for all that wait


def test_a_request_that_waits_is_answered_with_the_failure(proxy: Proxy) -> None:
    proxy.route(page(), mode="dev")
    client = proxy.connect().send(get())
    proxy.hear(Demand)
    proxy.route(page(failure=Failure("it does not compile")), mode="dev")
    response = client.response()
    assert response.status == 503
    assert b"it does not compile" in response.body


def test_a_request_that_waits_for_a_page_that_is_deleted(proxy: Proxy) -> None:
    proxy.route(page())
    client = proxy.connect().send(get())
    proxy.hear(Demand)
    proxy.route()
    assert client.response().status == 404


def test_a_request_waits_no_longer_than_start_timeout(proxy: Proxy) -> None:
    proxy.route(page(limits=RouteLimits(start_timeout_seconds=0.1)))
    client = proxy.connect().send(get())
    response = client.response()
    assert response.status == 503
    assert response.head["Retry-After"]


def test_no_more_than_the_queue_wait(proxy: Proxy, worker: Worker) -> None:
    limits = RouteLimits(queue=2)
    proxy.route(page(limits=limits))
    waiting = [proxy.connect().send(get()) for _ in range(2)]
    proxy.hear(Demand)
    while proxy.hear(Counters).routes[0].waiting < 2:
        pass
    assert proxy.connect().send(get()).response().status == 503
    proxy.route(page(worker, limits=limits))
    for _ in waiting:
        worker.serve(ok())
    assert [client.response().status for client in waiting] == [200, 200]


def test_a_client_that_left_does_not_count_as_waiting(proxy: Proxy) -> None:
    proxy.route(page(limits=RouteLimits(queue=1)))
    proxy.connect().send(get()).reset()
    proxy.hear(Demand)
    while proxy.hear(Counters).routes[0].waiting:
        pass
    proxy.connect().send(get())
    proxy.hear(Demand)


def test_the_body_is_not_read_before_a_worker_is_chosen(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page())
    client = proxy.connect().send(post(b"x" * 20_000_000)[:1000])
    proxy.hear(Demand)
    before = proxy.resident_bytes()
    sent = client.fill(b"x" * 1_000_000)
    assert sent < 15_000_000
    assert proxy.resident_bytes() - before < 2_000_000
    proxy.route(page(worker))
    connection = worker.accept()
    connection.head()
    connection.exactly(sent)


# --- a worker that refuses or dies ----------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [get(), post(b"body")], ids=["GET", "POST"])
def test_a_worker_that_refuses_is_reported_and_another_tried(
    proxy: Proxy, worker: Worker, other: Worker, request_bytes: bytes
) -> None:
    other.stop_listening()
    proxy.route(page(other, worker))
    clients = [proxy.connect().send(request_bytes) for _ in range(2)]
    for _ in clients:
        connection = worker.asked()
        connection.exactly(len(connection.head().all("Content-Length")) * len(b"body"))
        connection.send(ok())
    assert [client.response().status for client in clients] == [200, 200]
    assert "refused" in proxy.hear(Refused, worker=other.number).reason.lower()


def test_without_another_worker_it_waits_for_the_next_snapshot(proxy: Proxy, worker: Worker, other: Worker) -> None:
    worker.stop_listening()
    client = proxy.connect().send(post(b"body"))
    proxy.hear(Refused, worker=worker.number)
    proxy.route(page(other))
    connection, _ = other.serve(ok())
    assert connection.exactly(4) == b"body"
    assert client.response().status == 200


def test_a_stale_connection_is_replaced(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(ok())
    client.response()
    client.send(get("/again"))
    connection.head()
    connection.close()  # as it is used again
    _, request = worker.serve(ok(b"again"))
    assert request.line == b"GET /again HTTP/1.1"
    assert client.response().body == b"again"


def test_a_connection_closed_while_idle_is_not_used_for_a_post(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect()
    for number in range(20):
        client.send(post(b"body"))
        connection, _ = worker.serve(ok())
        assert client.response().status == 200, number
        connection.close()


def test_a_worker_that_dies_before_it_answers(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get("/precious"))
    connection = worker.accept()
    connection.head()
    connection.close()
    worker.serve(ok(b"from another"))
    assert client.response().body == b"from another"
    proxy.hear(Refused, worker=worker.number)


def test_an_idempotent_request_is_sent_again_with_its_body(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(post(b"small", method="PUT"))
    connection = worker.accept()
    connection.head()
    assert connection.exactly(5) == b"small"
    connection.close()
    connection = worker.accept()
    connection.head()
    assert connection.exactly(5) == b"small"
    connection.send(ok())
    assert client.response().status == 200


def test_a_retry_goes_on_with_a_body_that_still_comes(proxy: Proxy, worker: Worker) -> None:
    start = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    client = proxy.connect().send(start)
    connection = worker.accept()
    connection.head()
    connection.until(b"abc\r\n")
    connection.close()
    connection = worker.accept()
    connection.head()
    client.send(b"3\r\ndef\r\n0\r\n\r\n")
    assert connection.chunks() == b"abcdef"
    connection.send(ok())
    assert client.response().status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [post(b"once"), post(b"x" * 100_000, method="PUT")],
    ids=["POST", "a body too large to keep"],
)
def test_what_cannot_be_repeated_is_answered_with_502(proxy: Proxy, worker: Worker, request_bytes: bytes) -> None:
    client = proxy.connect().send(request_bytes)
    connection = worker.accept()
    connection.head()
    connection.exactly(len(request_bytes.partition(b"\r\n\r\n")[2]))
    connection.close()
    assert client.response().status == 502


def test_a_deadly_request_is_given_up(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    for _ in range(MOST_TRIES):
        connection = worker.accept()
        connection.head()
        connection.close()
    assert client.response().status == 502
    client.send(get())
    worker.serve(ok())
    assert client.response().status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"220 smtp.example ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 \x00\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x7f\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    ],
)
def test_a_worker_that_does_not_speak_http(proxy: Proxy, worker: Worker, garbage: bytes) -> None:
    client = proxy.connect().send(get())
    connection = worker.accept()
    connection.head()
    with suppress(BrokenPipeError):  # enough of it had come
        connection.send(garbage)
    assert client.response().status == 502


def test_an_answer_cut_short_is_cut_short(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client.head()
    assert client.exactly(4) == b"half"
    connection.close()
    assert client.is_ended()


def test_a_chunked_answer_cut_short_has_no_last_chunk(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    client.head()
    assert client.until(b"half\r\n") == b"4\r\nhalf\r\n"
    connection.close()
    assert client.is_ended()


def test_a_cut_that_only_a_reset_can_tell(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    client.head()
    assert client.exactly(4) == b"half"
    connection.close()
    with pytest.raises(ConnectionResetError):
        client.rest()


def test_a_client_that_leaves_takes_its_request_along(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect().send(post(b"x" * 100)[:-10])
    connection = worker.accept()
    connection.head()
    client.close()
    assert connection.exactly(90) and connection.is_ended()
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    client.head()
    client.reset()
    assert connection.is_ended()


# --- snapshots ------------------------------------------------------------------------------------------


def test_a_swap_under_a_connection_that_is_kept_alive(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client = proxy.connect().send(get())
    old, _ = worker.serve(ok(b"old"))
    assert client.response().body == b"old"
    proxy.route(page(other))
    proxy.hear(Drained, worker=worker.number)
    assert old.is_ended()  # nobody will ask it again
    client.send(get())
    other.serve(ok(b"new"))
    assert client.response().body == b"new"


def test_a_worker_is_drained_when_its_last_answer_is_whole(proxy: Proxy, worker: Worker, other: Worker) -> None:
    first, second = proxy.connect().send(get("/1")), proxy.connect().send(get("/2"))
    connections = [worker.accept(), worker.accept()]
    for connection in connections:
        connection.head()
    proxy.route(page(other))
    connections[0].send(ok())
    connections[1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
    answered = [client for client in (first, second) if client.head() and client.exactly(1) == b"h"]
    assert len(answered) == 1
    assert not proxy.has_heard(Drained)
    connections[1].send(b"b")
    proxy.hear(Drained, worker=worker.number)
    assert all(connection.is_ended() for connection in connections)


def test_a_request_in_flight_finishes_on_the_old_worker(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client = proxy.connect().send(post(b"slow")[:-2])
    connection = worker.accept()
    connection.head()
    proxy.route(page(other))
    client.send(b"ow")
    assert connection.exactly(4) == b"slow"
    connection.send(ok(b"old"))
    assert client.response().body == b"old"
    client.send(get())
    other.serve(ok(b"new"))
    assert client.response().body == b"new"


def test_swaps_do_not_touch_other_pages(proxy: Proxy, worker: Worker, other: Worker, tmp_path: object) -> None:
    proxy.route(page(worker, name="a", pattern="/a"), page(other, name="b", pattern="/b"))
    client = proxy.connect().send(get("/a"))
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    client.head()
    proxy.route(page(worker, name="a", pattern="/a"))
    proxy.hear(Drained, worker=other.number)
    connection.send(b"1\r\nb\r\n0\r\n\r\n")
    assert client.chunks() == b"ab"


def test_the_least_loaded_worker_is_chosen(proxy: Proxy, worker: Worker, other: Worker) -> None:
    proxy.route(page(worker, other))
    clients = [proxy.connect().send(get()) for _ in range(4)]
    connections = [each.accept() for each in (worker, other) for _ in range(2)]
    for connection in connections:
        connection.head()
        connection.send(ok())
    assert [client.response().status for client in clients] == [200] * 4


# --- cut ------------------------------------------------------------------------------------------------


def test_cut_ends_a_stream_abruptly(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client = proxy.connect().send(get())
    connection, _ = worker.serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    client.head()
    client.until(b"half\r\n")
    proxy.route(page(other))
    proxy.tell(Cut(worker.number))
    assert client.is_ended()
    assert connection.is_ended()
    proxy.hear(Drained, worker=worker.number)


def test_cut_sends_what_can_be_repeated_to_another_worker(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client = proxy.connect().send(get())
    worker.accept().head()
    proxy.route(page(other))
    proxy.tell(Cut(worker.number))
    other.serve(ok(b"new"))
    assert client.response().body == b"new"
    proxy.hear(Drained, worker=worker.number)


def test_cut_answers_what_cannot(proxy: Proxy, worker: Worker, other: Worker) -> None:
    client = proxy.connect().send(post(b"x"))
    worker.accept().head()
    proxy.route(page(other))
    proxy.tell(Cut(worker.number))
    assert client.response().status == 502


def test_counters_tell_what_happened(proxy: Proxy, worker: Worker) -> None:
    client = proxy.connect()
    for body in (b"1", b"2"):
        client.send(post(body))
        connection, _ = worker.serve(ok())
        client.response()
        connection.close()
    client.send(post(b"3"))
    connection = worker.accept()
    connection.head()
    connection.close()
    assert client.response().status == 502
    while True:
        counted = proxy.hear(Counters)
        mine = {row.page: row for row in counted.routes}["index"]
        if counted.connections == 1 and mine.in_flight == 0 and mine.failures >= 1:
            break


# --- idle connections -----------------------------------------------------------------------------------


def test_a_worker_that_keeps_no_idle_connection_is_given_none(proxy: Proxy, worker: Worker) -> None:
    proxy.route(page(worker, limits=RouteLimits(worker_idle_seconds=0)))
    client = proxy.connect()
    for _ in range(2):
        client.send(get())
        connection, _ = worker.serve(ok())
        assert client.response().status == 200
        assert connection.is_ended()


def test_a_worker_that_resets_what_it_accepted_as_it_died(proxy: Proxy, worker: Worker, other: Worker) -> None:
    """The second connection was still taken, and must not count as the answer's end."""
    client = proxy.connect().send(get())
    for _ in range(2):
        connection = worker.accept()
        connection.head()
        connection.close()
    worker.stop_listening()
    proxy.hear(Refused, worker=worker.number)
    proxy.route(page(other))
    other.serve(ok(b"answered"))
    assert client.response().body == b"answered"
