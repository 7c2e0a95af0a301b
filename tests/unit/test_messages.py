"""Frames and messages survive any split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.wire.codec import WireError
from tqserver.wire.frames import MAX_FRAME_BYTES, FrameDecoder, frame, frame_length
from tqserver.wire.messages import Acknowledged, Fork, Preload, RouteEntry, Snapshot, WorkerRef, from_proxy, to_proxy
from tqserver.wire.messages import to_zygote as zygote


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 7))
def test_payloads_come_out_as_they_went_in(payloads: list[bytes], step: int) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    decoder = FrameDecoder()
    found = [out for at in range(0, len(stream), step) for out in decoder.feed(stream[at : at + step])]
    assert found == payloads
    assert decoder.pending == 0


def test_a_length_over_the_limit_is_refused() -> None:
    with pytest.raises(WireError):
        frame_length((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_messages_are_what_they_were() -> None:
    snapshot = Snapshot(3, "dev", [RouteEntry("/a", "a", 1, [WorkerRef(1, "unix:/x")])])
    assert to_proxy.decode(to_proxy.encode(snapshot)) == snapshot
    fork = Fork(preload=Preload(1, ["json"]))
    assert zygote.decode(zygote.encode(fork)) == fork


def test_a_message_of_the_other_direction_is_refused() -> None:
    with pytest.raises(WireError):
        to_proxy.decode(from_proxy.encode(Acknowledged(1)))
