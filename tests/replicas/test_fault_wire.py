"""The bytes that each fault sends, read from the socket."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from stacpull_replicas import (
    MemoryStore,
    MlhubReplica,
    PlannedFaults,
    S3Access,
    S3Replica,
    Status,
    parse_faults,
    run_in_thread,
)

BODY = bytes(range(256)) * 8
SIZE = len(BODY)
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Answer(NamedTuple):
    """The reply up to the end of the connection."""

    status: int
    fields: dict[str, str]
    body: bytes


def response_to(url: str, *, timeout: float = 5, **headers: str) -> Answer | None:
    """Send a request and read until the server closes; return None if the reply is not HTTP."""
    raw = raw_response(url, timeout=timeout, **headers)
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        return None
    line, *fields = head.decode().split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    return Answer(int(line.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, body)


def raw_response(url: str, *, timeout: float = 5, **headers: str) -> bytes:
    parts = urlsplit(url)
    fields = {
        "Host": parts.netloc,
        "Connection": "close",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            received += b"<reset>"
    return received


def struck(fault: str, **headers: str) -> Answer | None:
    """Return the reply to a request for the object `b/x` with `fault`."""
    with run_in_thread(replica(fault)) as server:
        return response_to(f"{server.s3_url}/b/x", **headers)


def replica(fault: str) -> S3Replica:
    store = MemoryStore({"b": {"x": BODY}})
    faults = PlannedFaults(parse_faults(f"[[fault]]\n{fault}"))
    return S3Replica(store=store, access=S3Access("k", "s", anonymous=True), faults=faults)


CASES = [
    ('what = "status"\ncode = 503\nheaders = {X-A = "1"}\nbody = "no"', {}, 503, {"x-a": "1"}, b"no"),
    ('what = "alter"\nheaders = {etag = "W/1", X-B = "2"}', {}, 200, {"etag": "W/1", "x-b": "2"}, BODY),
    ('what = "alter"\nwithout = ["ETag"]', {}, 200, {"etag": None}, BODY),
    ('what = "truncate"\nkeep = 7', {}, 200, {"content-length": "7"}, BODY[:7]),
    ('what = "damage"\nat = 1', {}, 200, {"etag": f'"{ETAG}"'}, b"\x00\xfe" + BODY[2:]),
    ('what = "damage"\nat = 1', {"Range": "bytes=4-7"}, 206, {}, b"\x04\xfa\x06\x07"),
    ('what = "whole"', {"Range": "bytes=4-7"}, 200, {"content-range": None}, BODY),
    ('what = "whole"', {"Range": "bytes=4-7", "If_Range": f'"{ETAG}"'}, 200, {}, BODY),
    ('what = "close"\nafter = 5', {}, 200, {"content-length": str(SIZE)}, BODY[:5]),
    ('what = "stall"\nafter = 5\nseconds = 0.05', {}, 200, {}, BODY),
    ('what = "drip"\nafter = 2000\nrate = 1000', {}, 200, {"content-length": str(SIZE)}, BODY),
    ('what = "overlong"\nextra = 3', {}, 200, {"content-length": str(SIZE)}, BODY + b"!!!"),
    ('what = "unframed"', {}, 200, {"content-length": None, "transfer-encoding": None}, BODY),
    ('what = "unframed"\nkeep = 9', {}, 200, {"content-length": None}, BODY[:9]),
    (
        'what = "unframed"\nchunked = true\nkeep = 9',
        {},
        200,
        {"content-length": None, "transfer-encoding": "chunked"},
        b"9\r\n" + BODY[:9] + b"\r\n",
    ),
    ('what = "fields"\ncount = 3\nsize = 5', {}, 200, {"x-more-0": "xxxxx", "x-more-2": "xxxxx"}, BODY),
    ('what = "delay"\nseconds = 0.05', {}, 200, {}, BODY),
]


@pytest.mark.parametrize(("fault", "headers", "status", "fields", "body"), CASES)
def test_each_fault_sends_the_described_response(
    fault: str, headers: dict[str, str], status: int, fields: dict[str, str | None], body: bytes
):
    answer = struck(fault, **headers)
    assert answer is not None
    assert answer.status == status
    assert {name: answer.fields.get(name) for name in fields} == fields
    assert answer.body == body


def test_no_answer_at_all():
    assert struck('what = "close"') is None


def test_a_reset():
    with run_in_thread(replica('what = "close"\nafter = 5\nreset = true')) as server:
        assert raw_response(f"{server.s3_url}/b/x").endswith(b"<reset>")


def test_a_raw_fault_sends_bytes_without_http():
    with run_in_thread(replica('what = "raw"\ndata = "220 ready"')) as server:
        assert raw_response(f"{server.s3_url}/b/x") == b"220 ready"


def test_a_coding_that_was_not_requested():
    answer = struck('what = "coded"', Accept_Encoding="identity")
    assert answer is not None
    assert answer.fields["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == BODY


def test_a_drip_fault_sends_slowly():
    started = time.monotonic()
    struck('what = "drip"\nafter = 1948\nrate = 500')
    assert time.monotonic() - started > 0.1


def test_a_stall_ends_when_the_client_disconnects():
    with run_in_thread(replica('what = "stall"\nafter = 1\nseconds = 60')) as server:
        with pytest.raises(TimeoutError):
            raw_response(f"{server.s3_url}/b/x", timeout=0.05)
        started = time.monotonic()
    assert time.monotonic() - started < 20, "it would stall for a minute"


def test_a_changed_object_differs_in_etag_content_and_ranges():
    new = BODY.translate(bytes(255 - value for value in range(256)))
    with run_in_thread(replica('what = "changed"')) as server:
        url = f"{server.s3_url}/b/x"
        whole = response_to(url)
        assert whole is not None
        assert (whole.status, whole.body) == (200, new)
        etag = whole.fields["etag"]
        assert etag != f'"{ETAG}"'
        conditional = [
            ({"Range": "bytes=4-7"}, 206, new[4:8]),
            ({"Range": "bytes=4-7", "If_Match": etag}, 206, new[4:8]),
            ({"If_None_Match": etag}, 304, b""),
            ({"If_None_Match": f'"{ETAG}"'}, 200, new),
        ]
        for headers, status, body in conditional:
            answer = response_to(url, **headers)
            assert answer is not None
            assert (answer.status, answer.body) == (status, body), headers
        refused = response_to(url, Range="bytes=4-7", If_Match=f'"{ETAG}"')
        assert refused is not None
        assert refused.status == 412


@pytest.mark.parametrize(
    ("location", "expected"), [("{url}", "http://HOST/b/x?q=1"), ("{path}y?z", "/b/xy?z")]
)
def test_redirects(location: str, expected: str):
    with run_in_thread(replica(f'what = "redirect"\nlocation = "{location}"\ncode = 307')) as server:
        answer = response_to(f"{server.s3_url}/b/x?q=1")
    assert answer is not None
    assert answer.status == 307
    assert answer.fields["location"] == expected.replace("HOST", urlsplit(server.s3_url).netloc)


def test_a_login_page():
    answer = struck('what = "login-page"')
    assert answer is not None
    assert (answer.status, answer.fields["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"password" in answer.body


def page(fault: str) -> dict[str, Any]:
    faults = PlannedFaults(parse_faults(f'[[fault]]\nkind = "page"\n{fault}'))
    with run_in_thread(MlhubReplica(items=6, faults=faults)) as hub:
        url = f"{hub.base_url}/collections/bigearthnet_v1_labels/items?limit=3&key={hub.key}"
        answer = response_to(url)
    assert answer is not None
    found: dict[str, Any] = json.loads(answer.body)
    return found


def next_of(found: dict[str, Any]) -> list[Any]:
    return [link["href"] for link in found["links"] if link["rel"] == "next"]


def test_pages_are_edited():
    assert next_of(page('what = "page"\nnext = "none"')) == []
    assert next_of(page('what = "page"\nnext = "null"')) == [None]
    assert next_of(page('what = "page"\nnext = "x?{url}"'))[0].startswith("x?http://127.0.0.1")
    edited = page('what = "page"\nids = ["../up", "b"]\nassets = false')
    assert [feature["id"] for feature in edited["features"]][:2] == ["../up", "b"]
    assert not any("assets" in feature for feature in edited["features"])
    assert any(link["href"].endswith("/items/..%2Fup") for link in edited["features"][0]["links"])
    assert len(next_of(edited)) == 1


@pytest.mark.parametrize(("shape", "size"), [("deep", 1000), ("long", 3_000_000), ("packed", 3 << 20)])
def test_a_bomb_fault_sends_a_large_body(shape: str, size: int):
    answer = struck(f'what = "bomb"\nshape = "{shape}"\nsize = {size}')
    assert answer is not None
    if shape == "packed":
        assert answer.fields["content-encoding"] == "gzip"
        assert len(answer.body) < size / 100
    else:
        assert len(answer.body) >= size
        assert answer.body.startswith(b'{"type": "FeatureCollection", "features": [')


def test_interrupted_responses_are_logged_with_their_bytes():
    with run_in_thread(replica('what = "close"\nafter = 5')) as server:
        response_to(f"{server.s3_url}/b/x")
        (record,) = server.requests
    assert (record.status, record.sent) == (200, 5)


def test_injected_faults_precede_planned_ones():
    with run_in_thread(replica('what = "status"\ncode = 500')) as server:
        server.inject(lambda _: True, Status(418))
        answers = [response_to(f"{server.s3_url}/b/x") for _ in range(2)]
    assert [answer.status for answer in answers if answer] == [418, 500]
