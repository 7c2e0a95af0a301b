"""How a proxy ends: told to leave it loses no connection, and without control it does not stay."""

from __future__ import annotations

import signal
import time

from tests.proxy.rig import Proxy, Worker, get, ok, page
from tests.proxy.test_upgrades import tunnel
from tqserver.proxy.tunnel import CLOSE_SERVICE_RESTART
from tqserver.wire.frames import frame
from tqserver.wire.messages import Leave, Snapshot, to_proxy


def test_leave_answers_what_is_in_flight_and_says_close(own_proxy: Proxy, worker: Worker) -> None:
    idle, busy = own_proxy.connect().send(get()), own_proxy.connect()
    worker.serve(ok())
    idle.response()
    busy.send(get())
    connection = worker.current()
    connection.head()
    own_proxy.tell(Leave(10.0))
    assert idle.rest() == b""
    assert own_proxy.process.poll() is None
    connection.send(ok(b"answered"))
    response = busy.response()
    assert (response.body, response.head["Connection"]) == (b"answered", b"close")
    assert own_proxy.process.wait(10) == 0


def test_leave_takes_what_the_kernel_has_queued(own_proxy: Proxy, worker: Worker) -> None:
    own_proxy.process.send_signal(signal.SIGSTOP)
    clients = [own_proxy.connect().send(get()) for _ in range(50)]
    own_proxy.tell(Leave(10.0))
    own_proxy.process.send_signal(signal.SIGCONT)
    for _ in clients:
        worker.serve(ok())
    for client in clients:
        assert client.response().status == 200
    assert own_proxy.process.wait(10) == 0


def test_snapshots_that_come_at_once_open_the_door_once(worker: Worker) -> None:
    fresh = Proxy()
    fresh.link.sendall(b"".join(frame(to_proxy.encode(Snapshot(n, "prod", [page(worker)]))) for n in (1, 2, 3)))
    client = fresh.connect().send(get())
    worker.serve(ok())
    assert client.response().status == 200
    fresh.tell(Leave(10.0))
    assert client.rest() == b""
    assert fresh.process.wait(10) == 0
    fresh.stop()


def test_leave_does_not_end_listening_for_others(own_proxy: Proxy) -> None:
    own_proxy.tell(Leave(1.0))
    assert own_proxy.process.wait(10) == 0
    own_proxy.connect()  # refused, if the socket had been shut down


def test_leave_ends_at_the_deadline(own_proxy: Proxy, worker: Worker) -> None:
    client = own_proxy.connect().send(get())
    worker.accept().head()
    tunnelled, _ = tunnel(own_proxy, worker)
    own_proxy.tell(Leave(0.1))
    assert own_proxy.process.wait(10) == 0
    assert client.is_ended()
    assert tunnelled.rest() == CLOSE_SERVICE_RESTART


def test_sigterm_leaves_and_sigint_is_controls(own_proxy: Proxy, worker: Worker) -> None:
    client = own_proxy.connect().send(get())
    own_proxy.process.send_signal(signal.SIGINT)
    worker.serve(ok())
    assert client.response().status == 200
    client.send(get())
    connection = worker.current()
    connection.head()
    own_proxy.process.send_signal(signal.SIGTERM)
    connection.send(ok())
    assert client.response().status == 200
    assert own_proxy.process.wait(10) == 0


def test_without_control_it_ends_at_once(own_proxy: Proxy, worker: Worker) -> None:
    client = own_proxy.connect().send(get())
    worker.accept().head()
    own_proxy.link.close()
    begun = time.monotonic()
    assert own_proxy.process.wait(10) == 1
    assert time.monotonic() - begun < 5
    assert client.is_ended()
