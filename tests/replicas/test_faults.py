"""Fault files, which requests their rules strike, and the bytes that each fault sends."""

import hashlib
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from stacpull_replicas import (
    Close,
    FaultFileError,
    FaultPlan,
    MemoryStore,
    PlannedFaults,
    RequestInfo,
    Rule,
    S3Access,
    S3Replica,
    Status,
    parse_faults,
    read_faults,
    run_in_thread,
)

BANG = Close()

FULL = """
seed = 7

[[fault]]
server = "blob"
path = "/mlhub/*.tif"
kind = "object"
ranged = false
from = 3
until = 30
every = 2
times = 5
per = "path"
probability = 0.25
what = "status"
code = 503
headers = {Retry-After = "3"}
body = "<Error/>"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    rule = Rule(
        Status(503, {"Retry-After": "3"}, b"<Error/>"),
        *("blob", "/mlhub/*.tif", "object", False, 3, 30, 2, 5, "path", 0.25),
    )
    assert parse_faults(FULL) == FaultPlan((rule,), 7)
    (tmp_path / "x.toml").write_text(FULL)
    assert read_faults(tmp_path / "x.toml") == parse_faults(FULL)
    assert parse_faults("") == FaultPlan(())


CLOSE = '[[fault]]\nwhat = "close"\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("sede = 1", None, "`sede`"),
        ('[fault]\nwhat = "close"', None, "fault"),
        ("[[fault]]\nnth = 1\n", 1, "what must be one of status, login-page"),
        ('[[fault]]\n\nwhat = "clsoe"', 1, "what must be one of"),
        (CLOSE + "after = -1", 1, "after"),
        (CLOSE + CLOSE + "seconds = 1", 3, "close has no key seconds."),
        (CLOSE + "first = 1", 1, "close has no key first."),
        (CLOSE + 'kind = "pages"', 1, "kind must be one of page, item, "),
        (CLOSE + "probability = 2", 1, "probability: Expected float <= 1.0"),
        ('[[fault]]\nwhat = "truncate"', 1, "truncate needs the key keep."),
        ("[[fault]\n", None, "line 1"),
    ],
)
def test_errors_name_the_key_and_the_line_of_the_rule(text: str, line: int | None, message: str) -> None:
    with pytest.raises(FaultFileError) as caught:
        parse_faults(text, "x.toml")
    start = "x.toml is not valid: " if line is None else f"x.toml, the rule in line {line}: "
    assert str(caught.value).startswith(start)
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultFileError, match=r"faults\.toml cannot be read"):
        read_faults(tmp_path / "faults.toml")


def request(target: str = "/x", **headers: str) -> RequestInfo:
    return RequestInfo("blob", "GET", target, headers)


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"server": "s3"}, False),
        ({"path": "/mlhub/*.tif"}, True),
        ({"path": "*B0[12].tif"}, True),
        ({"server": "blob", "kind": "object", "path": "*", "ranged": True}, True),
        ({"server": "blob", "kind": "object", "path": "*", "ranged": False}, False),
    ],
)
def test_a_rule_matches_by_server_kind_path_and_range(rule: dict[str, Any], matches: bool) -> None:
    info = request("/mlhub/a%20patch/x_B01.tif?sig=abc", range="bytes=7-")
    assert Rule(BANG, **rule).matches(info) is matches


@pytest.mark.parametrize(
    ("rule", "failing"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"first": 3, "last": 3}, [3]),
        ({"first": 3, "every": 3}, [3, 6]),
        ({"last": 2}, [1, 2]),
        ({"first": 2, "every": 2, "times": 2}, [2, 4]),
        ({"probability": 0.0}, []),
        ({"per": "path", "last": 1}, [1, 2, 3, 4]),
    ],
)
def test_a_rule_counts_the_requests_that_it_matches(rule: dict[str, Any], failing: list[int]) -> None:
    faults = PlannedFaults(FaultPlan((Rule(BANG, **rule),)))
    answers = [faults.before(request(f"/{number % 4}")) for number in range(1, 9)]
    assert [number for number, fault in enumerate(answers, 1) if fault is not None] == failing


def test_the_first_matching_rule_applies_and_all_count_the_request() -> None:
    for second, answers in ((Rule(BANG, last=2), [BANG, None]), (Rule(BANG, times=1), [BANG, None])):
        faults = PlannedFaults(FaultPlan((Rule(Status(503), last=1), second)))
        assert [faults.before(request()) for _ in range(3)] == [Status(503), *answers]


def test_draws_follow_the_probability_and_the_seed_and_not_the_order() -> None:
    def failing_requests(seed: int, order: list[int]) -> list[int]:
        faults = PlannedFaults(FaultPlan((Rule(BANG, probability=0.2, per="path"),), seed))
        return sorted(number for number in order if faults.before(request(f"/{number}")))

    order = list(range(5000))
    assert 900 < len(failing_requests(1, order)) < 1100
    assert failing_requests(1, order) == failing_requests(1, order[::-1]) != failing_requests(2, order)


BODY = bytes(range(256)) * 8
SIZE = len(BODY)
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@dataclass
class Answer:
    """The reply up to the end of the connection; the status is 0 if it is not HTTP."""

    raw: bytes
    status: int = 0
    body: bytes = b""

    def __post_init__(self) -> None:
        head, found, self.body = self.raw.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n") if found else [""]
        self.status = int(line.split(" ")[1]) if found else 0
        self.fields = {field.partition(": ")[0].lower(): field.partition(": ")[2] for field in fields}


def answer(url: str, **headers: str) -> Answer:
    parts = urlsplit(url)
    fields = {"Host": parts.netloc, "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            received += b"<reset>"
    return Answer(received)


def replica(fault: str) -> S3Replica:
    store = MemoryStore({"b": {"x": BODY}})
    faults = PlannedFaults(parse_faults(f"[[fault]]\n{fault}"))
    return S3Replica(store=store, access=S3Access("k", "s", anonymous=True), faults=faults)


CHUNKED = {"content-length": None, "transfer-encoding": "chunked"}
CASES = [
    ('what = "status"\ncode = 503\nheaders = {X-A = "1"}\nbody = "no"', {}, 503, {"x-a": "1"}, b"no"),
    ('what = "alter"\nheaders = {etag = "W/1", X-B = "2"}', {}, 200, {"etag": "W/1", "x-b": "2"}, BODY),
    ('what = "alter"\nwithout = ["ETag"]', {}, 200, {"etag": None}, BODY),
    ('what = "truncate"\nkeep = 7', {}, 200, {"content-length": "7"}, BODY[:7]),
    ('what = "damage"\nat = 1', {}, 200, {"etag": f'"{ETAG}"'}, b"\x00\xfe" + BODY[2:]),
    ('what = "whole"', {"Range": "bytes=4-7"}, 200, {"content-range": None}, BODY),
    ('what = "close"\nafter = 5', {}, 200, {"content-length": str(SIZE)}, BODY[:5]),
    ('what = "close"\nafter = 5\nreset = true', {}, 200, {}, BODY[:5] + b"<reset>"),
    ('what = "stall"\nafter = 5\nseconds = 0.05', {}, 200, {}, BODY),
    ('what = "drip"\nafter = 2000\nrate = 1000', {}, 200, {"content-length": str(SIZE)}, BODY),
    ('what = "overlong"\nextra = 3', {}, 200, {"content-length": str(SIZE)}, BODY + b"!!!"),
    ('what = "unframed"\nkeep = 9', {}, 200, {"content-length": None, "transfer-encoding": None}, BODY[:9]),
    ('what = "unframed"\nchunked = true\nkeep = 9', {}, 200, CHUNKED, b"9\r\n" + BODY[:9] + b"\r\n"),
    ('what = "fields"\ncount = 3\nsize = 5', {}, 200, {"x-more-0": "xxxxx", "x-more-2": "xxxxx"}, BODY),
    ('what = "delay"\nseconds = 0.05', {}, 200, {}, BODY),
    ('what = "redirect"\nlocation = "{path}y?z"\ncode = 307', {}, 307, {"location": "/b/xy?z"}, b""),
]


@pytest.mark.parametrize(("fault", "headers", "status", "fields", "body"), CASES)
def test_each_fault_sends_the_described_response(fault, headers, status, fields, body):
    with run_in_thread(replica(fault)) as server:
        found = answer(f"{server.s3_url}/b/x?q=1", **headers)
    assert found.status == status
    assert {name: found.fields.get(name) for name in fields} == fields
    assert found.body == body


def test_a_changed_object_differs_in_etag_content_and_ranges() -> None:
    new = BODY.translate(bytes(255 - value for value in range(256)))
    with run_in_thread(replica('what = "changed"')) as server:
        url = f"{server.s3_url}/b/x"
        etag = answer(url).fields["etag"]
        assert etag != f'"{ETAG}"'
        for headers, status, body in [
            ({}, 200, new),
            ({"Range": "bytes=4-7", "If_Match": etag}, 206, new[4:8]),
            ({"If_None_Match": etag}, 304, b""),
            ({"If_None_Match": f'"{ETAG}"'}, 200, new),
        ]:
            found = answer(url, **headers)
            assert (found.status, found.body) == (status, body), headers
        assert answer(url, Range="bytes=4-7", If_Match=f'"{ETAG}"').status == 412


def test_injected_faults_precede_planned_ones_and_all_replies_are_logged() -> None:
    with run_in_thread(replica('what = "close"\nafter = 5')) as server:
        server.inject(lambda _: True, Status(418))
        answers = [answer(f"{server.s3_url}/b/x") for _ in range(2)]
        assert [(record.status, record.sent) for record in server.requests] == [(418, 0), (200, 5)]
    assert [(found.status, len(found.body)) for found in answers] == [(418, 0), (200, 5)]


HALF_A_REQUEST = [
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"GET /x HTTP/1.1\r\nHo",
    b"GET /b/large HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_disconnects_logs_nothing(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    store, access = MemoryStore({"b": {"large": bytes(40_000_000)}}), S3Access("k", "s", anonymous=True)
    with run_in_thread(S3Replica(store=store, access=access)) as server:
        place, pause = urlsplit(server.s3_url), threading.Event()
        for sent in HALF_A_REQUEST:
            with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
                connection.sendall(sent)
                assert b"large" not in sent or connection.recv(1000)
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert requests.get(f"{server.s3_url}/nothing", timeout=60).status_code == 404
        assert any(len(server.requests) >= 2 or pause.wait(0.02) for _ in range(500))
        assert server.bytes_sent < 40_000_000
    assert caplog.records == []
