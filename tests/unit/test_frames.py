"""Frames, however the stream was split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.wire.codec import WireError
from tqserver.wire.frames import HEADER_BYTES, MAX_FRAME_BYTES, FrameDecoder, frame, frame_length

payload_lists = st.lists(st.binary(max_size=40), max_size=6)


def test_a_frame_is_a_length_and_the_payload() -> None:
    assert frame(b"hello") == b"\x00\x00\x00\x05hello"
    assert frame(b"") == b"\x00\x00\x00\x00"


@given(payload_lists)
def test_split_at_every_byte(payloads: list[bytes]) -> None:
    stream = b"".join(map(frame, payloads))
    for cut in range(len(stream) + 1):
        decoder = FrameDecoder()
        assert [*decoder.feed(stream[:cut]), *decoder.feed(stream[cut:])] == payloads
        assert decoder.pending == 0


@given(payload_lists, st.data())
def test_split_anyhow(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    decoder, received, place = FrameDecoder(), [], 0
    while place < len(stream):
        size = data.draw(st.integers(1, len(stream) - place))
        received += decoder.feed(stream[place : place + size])
        place += size
    assert received == payloads
    assert decoder.pending == 0


@given(payload_lists, st.binary(min_size=1, max_size=40))
def test_a_frame_that_has_not_ended_is_pending(payloads: list[bytes], last: bytes) -> None:
    decoder = FrameDecoder()
    unfinished = frame(last)[:-1]
    assert list(decoder.feed(b"".join(map(frame, payloads)) + unfinished)) == payloads
    assert decoder.pending == len(unfinished)
    assert list(decoder.feed(last[-1:])) == [last]


def test_a_length_over_the_limit_is_refused_before_its_payload_comes() -> None:
    header = (MAX_FRAME_BYTES + 1).to_bytes(HEADER_BYTES, "big")
    with pytest.raises(WireError, match="over the limit"):
        frame_length(header)
    with pytest.raises(WireError, match="over the limit"):
        list(FrameDecoder().feed(header))
    assert frame_length(MAX_FRAME_BYTES.to_bytes(HEADER_BYTES, "big")) == MAX_FRAME_BYTES


def test_a_decoder_may_have_a_lower_limit() -> None:
    decoder = FrameDecoder(4)
    assert list(decoder.feed(frame(b"four"))) == [b"four"]
    with pytest.raises(WireError, match="5 bytes is over the limit of 4"):
        list(decoder.feed(frame(b"fives")))


def test_a_payload_over_the_limit_is_not_framed() -> None:
    with pytest.raises(WireError, match="over the limit"):
        frame(bytes(MAX_FRAME_BYTES + 1))
