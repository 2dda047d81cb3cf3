from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.clock import parse_instant
from stacpull.errors import UsageError
from stacpull.filters.interval import parse_interval
from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2017-06-13", "2017-06-13T00:00:00Z", "2017-06-13T23:59:59.999999Z"),
        ("2017-06-13T10:10:31Z", "2017-06-13T10:10:31Z", "2017-06-13T10:10:31Z"),
        ("2017-06-13T12:10:31+02:00", "2017-06-13T10:10:31Z", "2017-06-13T10:10:31Z"),
        ("2017-07", "2017-07-01T00:00:00Z", "2017-07-31T23:59:59.999999Z"),
        ("2020-02", "2020-02-01T00:00:00Z", "2020-02-29T23:59:59.999999Z"),
        ("2017", "2017-01-01T00:00:00Z", "2017-12-31T23:59:59.999999Z"),
        ("../2018", "..", "2018-12-31T23:59:59.999999Z"),
        ("2017-07/..", "2017-07-01T00:00:00Z", ".."),
        ("2017-06/2018", "2017-06-01T00:00:00Z", "2018-12-31T23:59:59.999999Z"),
        ("2017-06-13 / 2017-07", "2017-06-13T00:00:00Z", "2017-07-31T23:59:59.999999Z"),
        ("9999", "9999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("2017-06-13/2017-06-14", "2017-06-13T00:00:00Z", "2017-06-14T23:59:59.999999Z"),
        ("../2017-06-14", "..", "2017-06-14T23:59:59.999999Z"),
        ("2017-06-13/..", "2017-06-13T00:00:00Z", ".."),
        ("/2017-06-14", "..", "2017-06-14T23:59:59.999999Z"),
        ("2017-06-13/", "2017-06-13T00:00:00Z", ".."),
        ("0001-01-01/9999-12-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("2016-10-08 19:25:32Z/..", "2016-10-08T19:25:32Z", ".."),
        ("2016-10-08T19:25:32/..", "2016-10-08T19:25:32Z", ".."),
    ],
)
def test_intervals_are_parsed(text, start, end):
    assert parse_interval(text) == (_instant(start), _instant(end))


def _instant(text):
    return None if text == ".." else datetime.fromisoformat(text)


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "../..",
        "/",
        "0000",
        "201",
        "2017-6",
        "2017-00",
        "2017-13",
        "2017-06-00",
        "2017/2016",
        "20170613",
        "2017-W01-1",
        "2017-13-01",
        "2017-02-30",
        "soon",
        "2017-06-14/2017-06-13",
        "2017-06-13/2017-06-14/2017-06-15",
        "2017-06-13T10",
        "2017-06-13T25:00:00Z",
    ],
)
def test_invalid_intervals_are_rejected(text):
    with pytest.raises(UsageError, match="datetime") as error:
        compile_items(Selection(datetime=text))
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2016-10-08 19:25:32Z", datetime(2016, 10, 8, 19, 25, 32, tzinfo=UTC)),
        ("2017-06-17 11:33:21", datetime(2017, 6, 17, 11, 33, 21, tzinfo=UTC)),
        ("2017-06-13T16:50:43", datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)),
        ("2017-06-13t16:50:43z", datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2262-01-01T00:00:00.000000Z", datetime(2262, 1, 1, tzinfo=UTC)),
        ("2020-01-01T00:00:00.123456789Z", datetime(2020, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2020-01-01", datetime(2020, 1, 1, tzinfo=UTC)),
        ("12020-01-01T00:00:00Z", None),
        ("", None),
        (5, None),
        (None, None),
        (["2020-01-01"], None),
    ],
)
def test_item_times_are_read_leniently(value, instant):
    assert parse_instant(value) == instant


@pytest.mark.parametrize(
    ("properties", "matches"),
    [
        ({"datetime": "2017-06-13T00:00:00Z"}, True),
        ({"datetime": "2017-06-14T23:59:59.5Z"}, True),
        ({"datetime": "2017-06-15T00:00:00Z"}, False),
        ({"datetime": "2017-06-12T23:59:59Z"}, False),
        ({"datetime": "2017-06-13T01:00:00+02:00"}, False),
        ({"datetime": None}, False),
        ({"datetime": "never"}, False),
        ({}, False),
        ({"datetime": None, "start_datetime": "2017-01-01", "end_datetime": "2018-01-01"}, True),
        ({"start_datetime": "2017-06-14T12:00:00Z", "end_datetime": "2018-01-01T00:00:00Z"}, True),
        ({"start_datetime": "2017-06-15T00:00:00Z", "end_datetime": "2018-01-01T00:00:00Z"}, False),
        ({"start_datetime": "2017-01-01T00:00:00Z", "end_datetime": "2017-06-12T00:00:00Z"}, False),
        ({"start_datetime": "2017-01-01T00:00:00Z"}, True),
        ({"end_datetime": "2017-01-01T00:00:00Z"}, False),
        (
            {
                "datetime": "2017-01-01T00:00:00Z",
                "start_datetime": "2017-06-13",
                "end_datetime": "2018-01-01",
            },
            False,
        ),
    ],
)
def test_verdicts_by_time(properties, matches):
    reason = compile_items(Selection(datetime="2017-06-13/2017-06-14")).judge({"properties": properties})
    assert reason == (None if matches else "datetime")


@pytest.mark.parametrize("offset", ["+14:00", "-14:00"])
def test_times_at_the_end_of_the_calendar_can_be_compared(offset):
    judge = compile_items(Selection(datetime="2017-01-01/..")).judge
    assert judge({"properties": {"datetime": f"0001-01-01T00:00:00{offset}"}}) == "datetime"
    assert judge({"properties": {"datetime": f"9999-12-31T23:59:59{offset}"}}) is None
    assert parse_interval(f"0001-01-01T00:00:00{offset}/..").start.year == 1


BASE = datetime(2020, 1, 1, tzinfo=UTC)
HOURS = st.integers(0, 12)


def _text(hours):
    return (BASE + timedelta(hours=hours)).isoformat()


@given(wanted=st.tuples(HOURS, HOURS).map(sorted), span=st.tuples(HOURS, HOURS).map(sorted))
def test_intervals_overlap_if_they_share_an_hour(wanted, span):
    properties = {"start_datetime": _text(span[0]), "end_datetime": _text(span[1])}
    reason = compile_items(Selection(datetime="/".join(map(_text, wanted)))).judge({"properties": properties})
    common = set(range(wanted[0], wanted[1] + 1)) & set(range(span[0], span[1] + 1))
    assert (reason is None) == bool(common)
