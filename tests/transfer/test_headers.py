"""Header fields, as servers write them and as they should."""

from __future__ import annotations

import pytest

from stacpull.net.fields import ContentRange, content_range
from stacpull.transfer.checks import page_instead

NONE = ContentRange(None, None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/10", ContentRange(0, 9, 10)),
        ("bytes 5-9/*", ContentRange(5, 9, None)),
        ("bytes */10", ContentRange(None, None, 10)),
        ("bytes */*", NONE),
        ("BYTES 0-9/10", ContentRange(0, 9, 10)),
        ("items 0-9/10", NONE),
        ("bytes 0-9", NONE),
        ("bytes -9/10", NONE),
        ("bytes 0/10", NONE),
        ("bytes=0-9/10", NONE),
        ("bytes ٣-9/10", NONE),
        (f"bytes 0-9/{'9' * 18}", ContentRange(0, 9, 10**18 - 1)),
        (f"bytes 0-9/{'9' * 19}", ContentRange(0, 9, None)),
        (f"bytes 0-9/{'9' * 4400}", ContentRange(0, 9, None)),
        (f"bytes 0-{'9' * 4400}/*", NONE),
        (f"bytes {'0' * 4400}-9/10", NONE),
        ("", NONE),
    ],
)
def test_content_range_is_parsed(value: str, expected: ContentRange):
    assert content_range({"Content-Range": value}) == expected


HTML = {"Content-Type": "text/html; charset=utf-8"}
LOGIN = b"\r\n<!DOCTYPE html><html><title>Sign in</title>"
XML = b"<?xml version='1.0'?>"
TIFF = "https://h/a.tif?sig=x.html"


@pytest.mark.parametrize(
    ("media_type", "href", "headers", "start", "expected"),
    [
        ("image/tiff; application=geotiff", TIFF, HTML, LOGIN, "image/tiff"),
        ("application/json", "https://h/x.html", HTML, LOGIN, "application/json"),
        ("image/jp2", TIFF, HTML, b"\xef\xbb\xbf<html>", "image/jp2"),
        ("image/tiff", TIFF, {"Content-Type": "application/octet-stream"}, LOGIN, "image/tiff"),
        ("image/tiff", TIFF, HTML, b"II*\x00", None),
        ("image/tiff", TIFF, HTML, b"", None),
        ("text/html", TIFF, HTML, LOGIN, None),
        ("text/xml", TIFF, HTML, XML, None),
        ("application/xml", TIFF, {"Content-Type": "application/xml"}, XML, None),
        (None, TIFF, HTML, LOGIN, "a .tif file"),
        (None, "https://h/HLS.L30.T01GEL.v1.5.B09.NC", HTML, LOGIN, "a .nc file"),
        (None, "s3://bucket/a.zip", HTML, LOGIN, "a .zip file"),
        (None, "https://h/viewer.aspx?id=1.tif", HTML, LOGIN, None),
        (None, "https://h/HLS.v1.5", HTML, LOGIN, None),  # a version, no suffix
        (None, "https://h/Products(1)/$value", HTML, LOGIN, None),
        (None, "https://h/.tif", HTML, LOGIN, None),
        (None, "https://h/", HTML, LOGIN, None),
    ],
)
def test_web_pages_in_place_of_assets_are_recognised(
    media_type: str | None, href: str, headers: dict[str, str], start: bytes, expected: str | None
):
    failure = page_instead(media_type, href, "https://h/", headers, start)
    assert (failure is None) is (expected is None)
    assert failure is None or expected in failure.message
