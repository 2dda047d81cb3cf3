"""What responses state about their content, and when a part may be resumed, as tables."""

import base64
import hashlib
import zlib

import pytest
from msgspec.structs import replace
from multidict import CIMultiDict

from stacpull.models import Checksum, Job, ResumePoint, Validator
from stacpull.net.fields import ContentRange, content_range, validator_of
from stacpull.transfer.checks import (
    resume_action,
    shows_change,
    stated_checksums,
    web_page_instead,
    without_weak_date,
)

BODY = b"a band of a patch"
MD5 = hashlib.md5(BODY, usedforsecurity=False).digest()
SHA256 = hashlib.sha256(BODY).digest()
SHA1 = hashlib.sha1(BODY, usedforsecurity=False).digest()
SHA512 = hashlib.sha512(BODY).digest()
CRC64 = bytes.fromhex("1f4c4308e999f379")
CRC32C = bytes.fromhex("c16ea1e8")
CRC = zlib.crc32(BODY).to_bytes(4, "big")


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


ETAG = {"ETag": f'"{MD5.hex()}"'}
BY_ETAG = (Checksum("md5", MD5), "ETag")
BY_MD5 = (Checksum("md5", MD5), "Content-MD5")
BY_GOOGLE = (Checksum("crc32c", CRC32C), "x-goog-hash")
BY_GOOGLE_MD5 = (Checksum("md5", MD5), "x-goog-hash")
BY_ITEM = (Checksum("sha256", SHA256), "file:checksum")
JOB = Job("a", "https://h.example/a", "c/i", "a.tif", rowid=1, item_rowid=1, generation=0)

ON_S3 = [
    (ETAG, 200, [BY_ETAG]),
    (ETAG, 206, [BY_ETAG]),
    (ETAG | {"x-amz-server-side-encryption": "AES256"}, 200, [BY_ETAG]),
    (ETAG | {"x-amz-server-side-encryption": "aws:kms"}, 200, []),
    (ETAG | {"x-amz-server-side-encryption": "aws:kms:dsse"}, 200, []),
    (ETAG | {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 200, []),
    (ETAG | {"x-amz-storage-class": "EXPRESS_ONEZONE"}, 200, []),
    (ETAG | {"Content-Encoding": "gzip"}, 200, [BY_ETAG]),  # of what is stored, so of the bytes as sent
    ({"ETag": f'"{MD5.hex()}-23"'}, 200, []),
    ({"ETag": '"838a04acfa29e10b3b0a972f9ff2f65z"'}, 200, []),
    ({"ETag": f'W/"{MD5.hex()}"'}, 200, []),
    ({"ETag": '"ab ab ab ab ab ab ab ab ab ab ab"'}, 200, []),
    ({"x-amz-checksum-sha256": b64(SHA256)}, 206, []),
    ({"x-amz-checksum-sha256": b64(SHA256) + "-4"}, 200, []),
    ({"x-amz-checksum-crc32": b64(SHA1)}, 200, []),
    *(
        ({f"x-amz-checksum-{name}": b64(digest)}, 200, [(Checksum(name, digest), f"x-amz-checksum-{name}")])
        for name, digest in {
            "sha256": SHA256,
            "sha1": SHA1,
            "crc32": CRC,
            "crc64nvme": CRC64,
            "crc32c": CRC32C,
            "sha512": SHA512,
            "md5": MD5,
        }.items()
    ),
    ({"x-amz-checksum-crc64nvme": b64(CRC64)}, 206, []),
    ({"x-amz-checksum-crc64nvme": b64(CRC32C)}, 200, []),
    ({"x-amz-checksum-crc32c": b64(CRC32C) + "-2", "x-amz-checksum-type": "COMPOSITE"}, 200, []),
    ({"x-amz-checksum-xxhash64": b64(CRC64)}, 200, []),
    ({"Content-MD5": b64(MD5)}, 200, [BY_MD5]),
    ({"Content-MD5": b64(MD5), "x-goog-hash": f"crc32c={b64(CRC32C)}"}, 206, []),  # perhaps of the range
    ({"Content-MD5": "not base64!"}, 200, []),
    ({"Content-MD5": "YWJj"}, 200, []),
    ({"Content-MD5": b64(MD5)} | ETAG, 200, [BY_MD5]),
    ({}, 200, []),
]


@pytest.mark.parametrize(("headers", "status", "expected"), ON_S3)
def test_what_s3_responses_state(
    headers: dict[str, str], status: int, expected: list[tuple[Checksum, str]]
) -> None:
    assert list(stated_checksums(JOB, status, CIMultiDict(headers)).items()) == expected


GOOGLE = {"x-goog-hash": f"crc32c={b64(CRC32C)}"}
ELSEWHERE = [
    (ETAG, None, []),
    (ETAG | {"Content-MD5": b64(MD5)}, None, [BY_MD5]),
    (ETAG, BY_ITEM[0], [BY_ITEM]),
    ({"Content-MD5": b64(MD5)}, BY_ITEM[0], [BY_ITEM, BY_MD5]),
    ({"content-md5": b64(MD5)}, None, [BY_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)},md5={b64(MD5)}"}, None, [BY_GOOGLE, BY_GOOGLE_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)}, md5={b64(MD5)}"}, None, [BY_GOOGLE, BY_GOOGLE_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)},md5=nonsense,sha9=AA==,="}, None, [BY_GOOGLE]),
    (GOOGLE | {"x-goog-stored-content-encoding": "gzip"}, None, []),
    (GOOGLE | {"x-goog-stored-content-encoding": "identity"}, None, [BY_GOOGLE]),
]


@pytest.mark.parametrize(("headers", "in_item", "expected"), ELSEWHERE)
def test_what_http_responses_state(
    headers: dict[str, str], in_item: Checksum | None, expected: list[tuple[Checksum, str]]
):
    job = replace(JOB, checksum=in_item)
    stated = stated_checksums(job, 200, CIMultiDict(headers), url="https://h.example/a")
    assert list(stated.items()) == expected


# Parts, and unchanged objects.

V = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
POINT = ResumePoint(40, V, 100)
OPEN = ResumePoint(40, V, None)
DATED = ResumePoint(40, Validator(None, V.last_modified), 100)
WEAK = ResumePoint(40, Validator('W/"v1"', V.last_modified), 100)
GOES_ON = {"Content-Range": "bytes 40-99/100"}
SAME = {"ETag": '"v1"'}

TABLE = [
    (POINT, 200, {}, "replace"),
    (POINT, 206, GOES_ON, "again"),
    (POINT, 206, GOES_ON | {"Last-Modified": V.last_modified}, "again"),
    (DATED, 206, GOES_ON, "again"),
    (DATED, 206, GOES_ON | {"ETag": '"v1"'}, "again"),
    (DATED, 206, GOES_ON | {"Last-Modified": V.last_modified}, "append"),
    (WEAK, 206, GOES_ON | {"ETag": 'W/"v1"'}, "again"),
    (WEAK, 206, GOES_ON | {"ETag": 'W/"v1"', "Last-Modified": V.last_modified}, "append"),
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
    (OPEN, 416, {"Content-Range": "bytes */40"}, "again"),
    (POINT, 416, {}, "again"),
    (ResumePoint(40, validator_of({"ETag": ""}), 100), 206, {"ETag": ""} | GOES_ON, "again"),
]


@pytest.mark.parametrize(("point", "status", "headers", "expected"), TABLE)
def test_a_response_decides_how_a_part_continues(point, status, headers, expected):
    assert resume_action(point, status, CIMultiDict(headers)) is expected


def test_a_coded_part_resumes_if_the_asset_is_stored_in_that_coding() -> None:
    coded = CIMultiDict({"Content-Range": "bytes 40-99/100", "Content-Encoding": "gzip"} | SAME)
    assert resume_action(POINT, 206, coded, stated_size=100) == "append"
    assert resume_action(POINT, 206, coded, stated_size=300) == "again"
    of_unknown_size = CIMultiDict({**coded, "Content-Range": "bytes 40-99/*"})
    assert resume_action(POINT, 206, of_unknown_size) == "again"


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
    (None, {}, NOW, False),
]


@pytest.mark.parametrize("etag", [None, 'W/"v1"', '"v1"'])
@pytest.mark.parametrize(("modified", "headers", "now", "strong"), DATES)
def test_an_ambiguous_date_is_not_a_validator(etag, modified, headers, now, strong):
    found = without_weak_date(Validator(etag, modified), CIMultiDict(headers), now)
    assert found == Validator(etag, modified if strong else None)
    assert found.resumable is (strong or etag == '"v1"')


@pytest.mark.parametrize(
    ("etag_or_date", "headers", "is_changed"),
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
def test_a_304_with_another_etag_is_rejected(etag_or_date: str, headers: dict[str, str], is_changed: bool):
    assert shows_change(etag_or_date, CIMultiDict(headers)) is is_changed


# Header fields, and pages in place of assets.

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
        ("bytes=0-9/10", NONE),
        ("bytes ٣-9/10", NONE),
        (f"bytes 0-9/{'9' * 18}", ContentRange(0, 9, 10**18 - 1)),
        (f"bytes 0-9/{'9' * 19}", ContentRange(0, 9, None)),
        (f"bytes 0-9/{'9' * 4400}", ContentRange(0, 9, None)),
        (f"bytes 0-{'9' * 4400}/*", NONE),
        (f"bytes {'0' * 4400}-9/10", NONE),
    ],
)
def test_content_range_is_parsed(value: str, expected: ContentRange) -> None:
    assert content_range({"Content-Range": value}) == expected


PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
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
        ("application/xml", TIFF, HTML, XML + b"<a/>", None),
        ("image/svg+xml", TIFF, HTML, b"<svg/>", None),
        (None, "https://h/a.kml", HTML, b"<kml/>", None),
        ("application/gml+xml", TIFF, HTML, LOGIN, "application/gml+xml"),
        ("image/tiff", TIFF, HTML, XML, "image/tiff"),
        ("image/tiff", TIFF, {"Content-Type": "application/problem+json"}, b'{"error": 1}', "JSON instead"),
        (None, TIFF, {"Content-Type": "application/xml"}, XML, "XML instead of a .tif file"),
        ("image/tiff", TIFF, {"Content-Type": "application/json"}, b"II*\x00", None),
        ("image/tiff", TIFF, PLAIN, b"Too many requests", "plain text instead of image/tiff"),
        (None, "https://h/a.JP2", PLAIN, b"{}", "plain text"),
        ("image/jp2", "https://h/get?id=1", PLAIN, b"not found", "plain text"),
        ("image/tiff", TIFF, PLAIN, b"II*\x00", None),  # by servers that know no types
        ("image/tiff", "https://h/a.tfw", PLAIN, b"10.0", None),
        ("image/fits", TIFF, PLAIN, b"SIMPLE  =", None),
        (None, "https://h/a.txt", PLAIN, b"text", None),
        ("image/svg+xml", TIFF, {"Content-Type": "image/svg+xml"}, XML, None),
        ("application/geo+json", TIFF, {"Content-Type": "application/json"}, b"{}", None),
        ("image/tiff", "https://h/tileInfo.json", {"Content-Type": "application/json"}, b"{}", None),
        ("image/png", "https://h/a.png.aux.xml", {"Content-Type": "text/xml"}, XML, None),
        ("image/tiff", "https://h/a.vrt", {"Content-Type": "text/xml"}, XML, None),
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
def test_web_pages_and_texts_in_place_of_assets_are_recognised(media_type, href, headers, start, expected):
    failure = web_page_instead(media_type, href, "https://h/", headers, start)
    assert (failure is None) is (expected is None)
    assert failure is None or expected in failure.message
