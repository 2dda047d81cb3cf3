from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from stacpull.models import FailureKind
from stacpull.net.status import classify, is_web_page, moment_of, parse_retry_after, reason_in
from stacpull.redact import Secret, Secrets

NOW = 1_700_000_000.0
GONE, REFUSED, THROTTLED = FailureKind.GONE, FailureKind.REFUSED, FailureKind.THROTTLED
SERVER, CHANGED, HTTP = FailureKind.SERVER, FailureKind.CHANGED, FailureKind.HTTP

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
PLANETARY = b'{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 42 seconds."}'

TABLE = [
    *((status, {}, b"", GONE, None) for status in (404, 410)),
    *((status, {}, b"", SERVER, None) for status in (408, 421, 425, 500, 502, 504, 599, 799)),
    *((status, {}, b"", HTTP, None) for status in (204, 300, 405, 416, 418, 451)),
    (404, {}, b"<Error><Code>NoSuchBucket</Code></Error>", HTTP, None),
    (404, {"Retry-After": "5"}, b"", GONE, None),
    (400, {}, b"<Error><Code>ExpiredToken</Code></Error>", REFUSED, None),
    (401, {}, b"", REFUSED, None),
    (403, {}, DENIED, REFUSED, None),
    (403, {}, SLOW_DOWN, THROTTLED, None),
    (403, {}, b'{"message": "Rate exceeded"}', THROTTLED, None),
    (403, {"Retry-After": "3"}, b"", THROTTLED, 3.0),
    (400, {}, b'{"__type": "ThrottlingException"}', THROTTLED, None),
    (429, {}, b"", THROTTLED, None),
    (429, {}, PLANETARY, THROTTLED, 42.0),
    (429, {"Retry-After": "7"}, PLANETARY, THROTTLED, 7.0),
    (503, {}, b"", THROTTLED, None),
    (503, {"Retry-After": "120"}, SLOW_DOWN, THROTTLED, 120.0),
    (503, {"Retry-After": "-5"}, b"", THROTTLED, None),
    (503, {"Retry-After": "0"}, b"", THROTTLED, 0.2),
    (500, {}, SLOW_DOWN, THROTTLED, None),
    (500, {"retry-after": "2"}, b"", THROTTLED, 2.0),
    (412, {}, b"", CHANGED, None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "body", "kind", "wait"), TABLE)
def test_a_status_becomes_a_kind_of_failure(status, headers, body, kind, wait):
    failure = classify(status, CIMultiDict(headers), body, "h.example", now=NOW, secrets=Secrets())
    assert (failure.kind, failure.retry_after, failure.status) == (kind, wait, status)
    assert failure.host == "h.example"
    assert failure.retryable is (kind in {THROTTLED, SERVER, CHANGED})
    assert failure.message.startswith(f"h.example answered {status}")
    assert failure.message.endswith(".")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), (" 5 ", 5.0), ("1.5", 1.5), ("86400", 86400.0),
        ("-1", None), ("nan", None), ("inf", None), ("1e30", None), ("99999999999999", None),
        ("", None), (None, None), ("soon", None), ("Thu, 99 Foo 2023", None),
        (formatdate(NOW + 60, usegmt=True), 60.0), (formatdate(NOW - 60, usegmt=True), 0.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0), ("Tue Nov 14 22:14:20 2023", 60.0),
        (formatdate(NOW + 10**9, usegmt=True), None),
    ],
)  # fmt: skip
def test_retry_after_is_parsed(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_a_date_is_relative_to_the_clock_of_the_server() -> None:
    theirs = NOW + 5000
    headers = {"Date": formatdate(theirs, usegmt=True), "Retry-After": formatdate(theirs + 30, usegmt=True)}
    assert classify(503, CIMultiDict(headers), b"", "h", now=NOW, secrets=Secrets()).retry_after == 30.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784111777.0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 784111800.0),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 123456789012 08:49:37 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_of_a_server_are_parsed(text: str, moment: float | None) -> None:
    assert moment_of(text) == moment


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail":"Collection X does not exist."}', "Collection X does not exist"),
        (b'{"error": {"code": 400, "message": "bad bbox"}}', "bad bbox"),
        (b'{"error": 1}', ""),
        (
            b"\xef\xbb\xbf<Error><Code>BlobNotFound</Code><Message>None such.\nRequest:1</Message></Error>",
            "None such",
        ),
        (b"<Error><Code>NoSuchKey</Code></Error>", "NoSuchKey"),
        (b"<html><body>no</body></html>", ""),
        (b"plain words", "plain words"),
        (b"see https://h/x?sig=planted&a=1 for more", "see https://h/x?a=1 for more"),
        (b"", ""),
        (b"\x1b[31mred", "[31mred"),
    ],
)  # fmt: skip
def test_the_reason_is_found_in_the_body(body: bytes, reason: str) -> None:
    assert reason_in(body) == reason


@given(
    before=st.text("word ", min_size=100, max_size=900),
    key=st.text("XYZ0123456789", min_size=8, max_size=300),
    form=st.sampled_from(['{"message": "%s"}', "<Error><Message>%s</Message></Error>", "%s"]),
)
def test_a_shortened_reason_contains_no_part_of_a_secret(before: str, key: str, form: str) -> None:
    body = (form % f"{before}{key} said").encode()
    failure = classify(403, CIMultiDict(), body, "a.example", now=0.0, secrets=Secrets([Secret(key)]))
    assert not set(failure.message.removeprefix("a.example answered 403 Forbidden")) & set("XYZ0123456789")


@pytest.mark.parametrize(
    ("content_type", "body", "is_page"),
    [
        ("text/html; charset=utf-8", b"", False),
        ("TEXT/HTML", b"anything", False),
        ("TEXT/HTML", b" <p>anything", True),
        ("application/octet-stream", b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>", True),
        ("", b" <html lang=en>", True),
        ("", b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC", True),
        ("image/tiff", b"<html>", True),
        ("application/octet-stream", b"II*\x00", False),
        ("application/octet-stream", b"<Error>", False),
        ("application/json", b"{}", False),
    ],
)
def test_web_pages_are_recognised(content_type: str, body: bytes, is_page: bool) -> None:
    assert is_web_page(CIMultiDict({"Content-Type": content_type}), body) is is_page


BINARY = [
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00",
    b"II*\x00\x08\x00\x00\x00",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    bytes(range(256)),
    "not found".encode("utf-16"),
    b"PK\x03\x04ordinary words behind it",
    "caf\u00e9".encode("latin-1"),
    b"<Error><Message>\xff\xfe\x00</Message></Error>",
]


@pytest.mark.parametrize("body", BINARY)
def test_a_binary_body_is_never_quoted(body: bytes) -> None:
    assert reason_in(body) == ""
    assert (
        classify(500, {}, body, "h", now=NOW, secrets=Secrets()).message
        == "h answered 500 Internal Server Error."
    )
