"""Many clients: those that only sit there take nothing from those that ask."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.rig import Proxy, Wire, Worker, get, ok, page
from tqserver.proxy.clients import OWN_DESCRIPTORS, ROOM_SHARE
from tqserver.wire.messages import Counters, Refused, ServerLimits

MOST = 32
ASK = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"  # answered by the proxy


@pytest.fixture
def small_proxy(worker: Worker) -> Iterator[Proxy]:
    """A proxy that bears ``MOST`` clients."""
    proxy = Proxy(open_files=OWN_DESCRIPTORS + 2 * MOST)
    proxy.route(page(worker))
    yield proxy
    proxy.stop()


def asked(proxy: Proxy) -> Wire:
    """A client that was answered, and stays."""
    client = proxy.connect().send(ASK)
    assert client.response().status == 404
    return client


def in_flight(proxy: Proxy, worker: Worker) -> tuple[Wire, Wire]:
    """A client that waits for its answer, and the worker's end of it."""
    client = proxy.connect().send(get())
    connection = worker.accept()
    connection.head()
    return client, connection


def test_it_may_open_as_many_files_as_the_hard_limit_allows(own_proxy: Proxy) -> None:
    soft, hard = resource.prlimit(own_proxy.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_who_is_idle_for_longest_gives_way(small_proxy: Proxy, worker: Worker) -> None:
    clients = [asked(small_proxy) for _ in range(MOST + 1)]
    assert clients[0].rest() == b""
    last = clients[-1].send(get())
    worker.serve(ok())
    assert last.response().status == 200


def test_idle_clients_give_way_in_shares(small_proxy: Proxy) -> None:
    """Else each new connection would cost a look at all of them."""
    clients = [asked(small_proxy) for _ in range(MOST + 1)]
    for client in clients[: 1 + MOST // ROOM_SHARE]:
        assert client.rest() == b""
    assert clients[1 + MOST // ROOM_SHARE].send(ASK).response().status == 404


def test_who_waits_for_an_answer_does_not_give_way(small_proxy: Proxy, worker: Worker) -> None:
    client, connection = in_flight(small_proxy, worker)
    for _ in range(2 * MOST):
        asked(small_proxy)
    connection.send(ok())
    assert client.response().status == 200


def test_with_nobody_idle_the_next_waits_until_somebody_leaves(small_proxy: Proxy, worker: Worker) -> None:
    busy = [in_flight(small_proxy, worker) for _ in range(MOST + 1)]
    small_proxy.hear(Counters, connections=MOST + 1)
    late = small_proxy.connect().send(ASK)
    for client, connection in busy:
        connection.send(ok())
        assert client.response().status == 200
    assert late.response().status == 404


def test_a_storm_of_connections_leaves_a_proxy_that_serves(small_proxy: Proxy, worker: Worker) -> None:
    """More at once than there are descriptors."""
    small_proxy.process.send_signal(signal.SIGSTOP)
    for _ in range(100):  # the listening queue of the tests takes 128
        small_proxy.connect()
    small_proxy.process.send_signal(signal.SIGCONT)
    client = asked(small_proxy).send(get())
    worker.serve(ok())
    assert client.response().status == 200


def test_idle_connections_to_workers_give_way_and_no_worker_is_blamed(small_proxy: Proxy, tmp_path: Path) -> None:
    """With many workers those that are kept for the next request can be all that there are."""
    workers = [Worker(tmp_path) for _ in range(OWN_DESCRIPTORS + 2 * MOST)]
    routes = [page(each, name=f"p{each.number}", pattern=f"/{each.number}") for each in workers]
    small_proxy.route(*routes)
    client = small_proxy.connect()
    for each in workers:
        client.send(get(f"/{each.number}"))
        each.serve(ok())
        assert client.response().status == 200
    assert not small_proxy.has_heard(Refused)
    for each in workers:
        each.stop()


def test_one_address_has_as_many_as_it_may(own_proxy: Proxy, worker: Worker) -> None:
    own_proxy.route(page(worker), limits=ServerLimits(max_connections_per_client=2))
    first, second = asked(own_proxy), asked(own_proxy)
    assert own_proxy.connect().is_ended()
    first.close()
    own_proxy.hear(Counters, connections=1)
    asked(own_proxy)
    assert second.send(ASK).response().status == 404


def test_a_trusted_proxy_has_as_many_as_it_likes(own_proxy: Proxy, worker: Worker) -> None:
    limits = ServerLimits(max_connections_per_client=1)
    own_proxy.route(page(worker), limits=limits, trusted_proxies=["127.0.0.1"])
    for _ in range(3):
        asked(own_proxy)


def test_a_lower_bound_can_be_set(own_proxy: Proxy, worker: Worker) -> None:
    own_proxy.route(page(worker), limits=ServerLimits(max_connections=1))
    first = asked(own_proxy)
    asked(own_proxy)
    assert first.rest() == b""
