"""Conditional and range requests, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqserver.wire.conditions import Unsatisfiable, Validators, asked_range, judge

TAG = b'"1-2-3"'
EPOCH = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"  # the same moment: RFC 9110 5.6.7
BEFORE = b"Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = b"Sun, 06 Nov 1994 08:49:38 GMT"
NOW = EPOCH + 3600
CURRENT = Validators(TAG, EPOCH)


def test_the_date() -> None:
    assert CURRENT.last_modified == DATE


JUDGED = {
    "nothing is asked": ({}, None),
    "the tag": ({"if-none-match": TAG}, 304),
    "one of the tags": ({"if-none-match": b'"a", "b" , ' + TAG}, 304),
    "the tag, as a weak one": ({"if-none-match": b"W/" + TAG}, 304),
    "any tag": ({"if-none-match": b"*"}, 304),
    "another tag": ({"if-none-match": b'"other"'}, None),
    "half a tag": ({"if-none-match": TAG[:-1]}, None),
    "no tag": ({"if-none-match": b"1-2-3"}, None),
    "the tag beats the date": ({"if-none-match": b'"other"', "if-modified-since": DATE}, None),
    "not modified since": ({"if-modified-since": DATE}, 304),
    "not modified since later": ({"if-modified-since": AFTER}, 304),
    "modified since": ({"if-modified-since": BEFORE}, None),
    "a date of RFC 850": ({"if-modified-since": b"Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
    "a date of asctime": ({"if-modified-since": b"Sun Nov  6 08:49:37 1994"}, 304),
    "no date": ({"if-modified-since": b"yesterday"}, None),
    "an empty date": ({"if-modified-since": b""}, None),
    "two dates": ({"if-modified-since": DATE + b", " + DATE}, None),
    "a date of no year": ({"if-modified-since": b"Sun, 06 Nov 99999999 08:49:37 GMT"}, None),
    "match": ({"if-match": b'"other", ' + TAG}, None),
    "match anything": ({"if-match": b"*"}, None),
    "match another": ({"if-match": b'"other"'}, 412),
    "match as a weak one": ({"if-match": b"W/" + TAG}, 412),
    "match beats the date": ({"if-match": TAG, "if-unmodified-since": BEFORE}, None),
    "unmodified since": ({"if-unmodified-since": DATE}, None),
    "unmodified since earlier": ({"if-unmodified-since": BEFORE}, 412),
    "unmodified since no date": ({"if-unmodified-since": b"x"}, None),
    "match is asked first": ({"if-match": b'"other"', "if-none-match": TAG}, 412),
    "match holds, and none-match does not": ({"if-match": TAG, "if-none-match": TAG}, 304),
}


@pytest.mark.parametrize("case", JUDGED)
def test_conditions(case: str) -> None:
    fields, status = JUDGED[case]
    assert judge({name.encode(): value for name, value in fields.items()}, CURRENT) == status


RANGES = {
    b"bytes=0-0": range(1),
    b"bytes=2-5": range(2, 6),
    b"bytes=2-": range(2, 10),
    b"bytes=2-999": range(2, 10),
    b"bytes=-3": range(7, 10),
    b"bytes=-999": range(10),
    b"Bytes= 2-3 ": range(2, 4),
    b"bytes=5-2": None,
    b"bytes=0-1,5-6": None,  # several: the whole
    b"bytes=": None,
    b"bytes=-": None,
    b"bytes=a-b": None,
    b"bytes=1-" + b"9" * 5000: None,
    b"lines=1-2": None,
}


@pytest.mark.parametrize("asked", RANGES)
def test_ranges(asked: bytes) -> None:
    assert asked_range({b"range": asked}, CURRENT, 10, NOW) == RANGES[asked]


@pytest.mark.parametrize("asked", [b"bytes=10-", b"bytes=10-12", b"bytes=-0", b"bytes=" + b"9" * 18 + b"-"])
def test_ranges_behind_the_end(asked: bytes) -> None:
    with pytest.raises(Unsatisfiable):
        asked_range({b"range": asked}, CURRENT, 10, NOW)


def test_of_nothing_there_are_no_ranges() -> None:
    assert asked_range({b"range": b"bytes=0-"}, CURRENT, 0, NOW) is None


@pytest.mark.parametrize(
    ("if_range", "now", "holds"),
    [
        (TAG, NOW, True),
        (b"W/" + TAG, NOW, False),
        (b'"other"', NOW, False),
        (DATE, NOW, True),
        (DATE, EPOCH + 1, False),  # it may have changed twice in that second
        (AFTER, NOW, False),  # a date here is a validator, and only equality counts
        (b"", NOW, False),
    ],
)
def test_a_range_of_the_same_version_only(if_range: bytes, now: float, holds: bool) -> None:
    asked = asked_range({b"range": b"bytes=2-3", b"if-range": if_range}, CURRENT, 10, now)
    assert asked == (range(2, 4) if holds else None)


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 1000))
def test_whatever_is_asked_there_is_an_answer(one: bytes, other: bytes, size: int) -> None:
    fields = dict.fromkeys((b"if-match", b"if-none-match", b"if-modified-since", b"if-range"), one)
    assert judge(fields, CURRENT) in (None, 304, 412)
    try:
        part = asked_range({b"range": b"bytes=" + other, b"if-range": TAG}, CURRENT, size, NOW)
    except Unsatisfiable:
        return
    assert part is None or (0 <= part.start < part.stop <= size)
