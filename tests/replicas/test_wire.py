"""Ranges, conditions and dates, without I/O, in tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_replicas.http_messages import (
    RangeNotSatisfiable,
    RequestInfo,
    Stream,
    byte_range,
    http_date,
    in_parts,
    parse_date,
    precondition,
    range_still_valid,
)

WRITTEN = datetime(2020, 6, 9, 12, 0, 0, tzinfo=UTC)
BEFORE, AT, AFTER = (http_date(WRITTEN.replace(hour=hour)) for hour in (11, 12, 13))


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=0-", (0, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=0-100", (0, 100)),  # one byte past the end, as recorded
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("lines=0-1", None),
    ],
)
def test_ranges(header, span):
    assert byte_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_unsatisfiable_ranges(header):
    with pytest.raises(RangeNotSatisfiable):
        byte_range(header, 100)


def test_suffixes_can_be_left_unserved():
    assert byte_range("bytes=-5", 100, suffixes=False) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"if-match": '"abc"'}, None),
        ({"if-match": '"x", "abc"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": '"x"'}, 412),
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": "abc"}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, None),  # If-None-Match wins
        ({"if-modified-since": AT}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": AT}, None),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, None),  # If-Match wins
        ({"if-match": '"x"', "if-none-match": '"abc"'}, 412),
    ],
)
def test_preconditions(headers, status):
    assert precondition(headers, '"abc"', WRITTEN) == status


@pytest.mark.parametrize(
    ("header", "valid"),
    [(None, True), ('"abc"', True), ("abc", True), ('"x"', False), (AT, True), (BEFORE, False)],
)
def test_if_range(header, valid):
    assert range_still_valid(header, '"abc"', WRITTEN) is valid


def test_dates_round_trip():
    assert http_date(WRITTEN) == "Tue, 09 Jun 2020 12:00:00 GMT"
    assert parse_date("Tue, 09 Jun 2020 12:00:00 GMT") == WRITTEN
    assert parse_date("no date") is None
    assert parse_date(None) is None


def test_a_request_keeps_its_raw_path():
    request = RequestInfo("s3", "GET", "/b/a%2Fb//../c%20d?x=1&x=2&y", {})
    assert request.raw_path == "/b/a%2Fb//../c%20d"
    assert request.path == "/b/a/b//../c d"
    assert request.query == [("x", "1"), ("x", "2"), ("y", "")]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=30), st.integers(0, 900), st.integers(0, 900))
def test_a_body_in_parts_reads_as_one(parts, first, second):
    whole = b"".join(parts)
    start, stop = sorted((min(first, len(whole)), min(second, len(whole))))
    large = bytes((8 << 20) + 1)
    body = in_parts([*parts, large])
    assert isinstance(body, Stream)
    assert (body.size, body.read(start, stop)) == (len(whole) + len(large), whole[start:stop])
    assert in_parts(parts) == whole
