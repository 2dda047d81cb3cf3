"""When a part may be resumed: the decision as a table."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from stacpull.models import ResumePoint, Validator
from stacpull.net.fields import validator_of
from stacpull.transfer.checks import Verdict, denies, provable, verdict

V = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
POINT = ResumePoint(40, V, 100)
ALL = ResumePoint(40, V, 40)
OPEN = ResumePoint(40, V, None)
DATED = ResumePoint(40, Validator(None, V.last_modified), 100)
WEAK = ResumePoint(40, Validator('W/"v1"', V.last_modified), 100)
GOES_ON = {"Content-Range": "bytes 40-99/100"}
SAME = {"ETag": '"v1"'}

TABLE = [
    (POINT, 200, {}, "replace"),
    (POINT, 206, GOES_ON, "again"),
    (POINT, 206, GOES_ON | {"Last-Modified": V.last_modified}, "append"),
    (DATED, 206, GOES_ON, "again"),
    (DATED, 206, GOES_ON | {"ETag": '"v1"'}, "again"),
    (DATED, 206, GOES_ON | {"Last-Modified": V.last_modified}, "append"),
    (WEAK, 206, GOES_ON | {"ETag": 'W/"v1"'}, "append"),
    (WEAK, 206, GOES_ON | {"ETag": 'W/"v2"', "Last-Modified": V.last_modified}, "changed"),
    (WEAK, 206, GOES_ON | {"ETag": 'W/"v1"', "Last-Modified": "later"}, "changed"),
    (POINT, 206, GOES_ON | {"ETag": '"v1"'}, "append"),
    (POINT, 206, GOES_ON | {"ETag": '"v2"'}, "changed"),
    (POINT, 206, GOES_ON | {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}, "changed"),
    (POINT, 206, GOES_ON | {"ETag": '"v1"', "Last-Modified": "later, by a mirror"}, "append"),
    (POINT, 206, {"Content-Range": "bytes 40-59/100"} | SAME, "append"),
    (POINT, 206, {"Content-Range": "bytes 40-99/*"} | SAME, "append"),
    (POINT, 206, {"Content-Range": "bytes 0-99/100"}, "changed"),
    (POINT, 206, {"Content-Range": "bytes 41-99/100"}, "changed"),
    (POINT, 206, {"Content-Range": "bytes 40-119/120"}, "changed"),
    (POINT, 206, {"Content-Type": "multipart/byteranges; boundary=x"}, "changed"),
    (POINT, 206, {}, "changed"),
    (OPEN, 206, {"Content-Range": "bytes 40-119/120"} | SAME, "append"),
    (POINT, 206, GOES_ON | {"Content-Encoding": "gzip"}, "again"),
    (POINT, 206, GOES_ON | {"Content-Encoding": "identity"} | SAME, "append"),
    (POINT, 412, {}, "again"),
    (ALL, 416, {"Content-Range": "bytes */40"}, "whole"),
    (OPEN, 416, {"Content-Range": "bytes */40"}, "whole"),
    (ALL, 416, {"Content-Range": "bytes */40", "ETag": '"v2"'}, "again"),
    (ALL, 416, {"Content-Range": "bytes */39"}, "again"),
    (POINT, 416, {"Content-Range": "bytes */40"}, "again"),
    (POINT, 416, {}, "again"),
]


@pytest.mark.parametrize(("point", "status", "headers", "expected"), TABLE)
def test_a_response_decides_how_a_part_continues(
    point: ResumePoint, status: int, headers: dict[str, str], expected: Verdict
):
    assert verdict(point, status, CIMultiDict(headers)) is expected


def test_a_coded_part_resumes_if_the_asset_is_stored_in_that_coding():
    coded = CIMultiDict({"Content-Range": "bytes 40-99/100", "Content-Encoding": "gzip"} | SAME)
    assert verdict(POINT, 206, coded, stated=100) == "append"
    assert verdict(POINT, 206, coded, stated=300) == "again"


def test_an_empty_etag_is_no_proof() -> None:
    fields = CIMultiDict({"ETag": ""} | GOES_ON)
    assert verdict(ResumePoint(40, validator_of(fields), 100), 206, fields) == "again"


NEWEST = "Mon, 01 Jan 2024 00:00:10 GMT"
NOW = 1704067210.0  # that very moment
DATES = [
    (NEWEST, {"Date": NEWEST}, NOW + 3600, False),
    (NEWEST, {"Date": "Mon, 01 Jan 2024 00:00:11 GMT"}, NOW, True),
    (NEWEST, {"Date": "Mon, 01 Jan 2024 00:00:09 GMT"}, NOW + 3600, False),
    (NEWEST, {}, NOW + 59, False),
    (NEWEST, {}, NOW + 60, True),
    (NEWEST, {"Date": "today"}, NOW + 59, False),
    (NEWEST, {"Date": "today"}, NOW + 60, True),
    ("lately", {"Date": NEWEST}, NOW, False),
    ("lately", {}, NOW, False),
]


@pytest.mark.parametrize("etag", [None, 'W/"v1"', '"v1"'])
@pytest.mark.parametrize(("modified", "headers", "now", "strong"), DATES)
def test_an_ambiguous_date_is_not_a_validator(
    etag: str | None, modified: str, headers: dict[str, str], now: float, strong: bool
):
    found = provable(Validator(etag, modified), CIMultiDict(headers), now)
    assert found == Validator(etag, modified if strong else None)
    assert found.resumable is (strong or etag == '"v1"')


def test_a_strong_etag_needs_no_date():
    assert provable(Validator('"v1"'), CIMultiDict(), NOW) == Validator('"v1"')


@pytest.mark.parametrize(
    ("etag_or_date", "headers", "denied"),
    [
        ('"v1"', {}, False),
        ('"v1"', {"ETag": '"v1"'}, False),
        ('"v1"', {"ETag": 'W/"v1"'}, False),
        ('W/"v1"', {"ETag": '"v1"'}, False),
        ('"v1"', {"ETag": '"v2"'}, True),
        ('"v1"', {"ETag": '"v1"', "Last-Modified": "later, by a mirror"}, False),
        ("0x8D968C5F3B94E1C", {"ETag": "0x8D968C5F3B94E1C"}, False),
        ("0x8D968C5F3B94E1C", {"ETag": "0x8D968C5F3B94E1D"}, True),
        (V.last_modified, {}, False),
        (V.last_modified, {"Last-Modified": V.last_modified}, False),
        (V.last_modified, {"Last-Modified": V.last_modified, "ETag": '"new here"'}, False),
        (V.last_modified, {"Last-Modified": "Sun, 31 Dec 2023 00:00:00 GMT"}, True),
    ],
)
def test_a_304_with_another_etag_is_rejected(etag_or_date: str, headers: dict[str, str], denied: bool):
    assert denies(etag_or_date, CIMultiDict(headers)) is denied
