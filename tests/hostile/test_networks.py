"""Unreachable hosts, connections that end too soon, missing lengths and versions."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.wire_server import ReceivedRequest, Scripted, read_request, wire_of

from stacpull import MirrorReport, Notice, Options
from stacpull.net.transport import Request
from stacpull.reports import FailureRecord
from stacpull.sync import failures, mirror, status

pytestmark = pytest.mark.usefixtures("clock")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        pytest.param("http://nowhere.invalid/x", "nowhere.invalid could not be looked up", id="no such name"),
        pytest.param("http://127.0.0.1:1/x", "No connection to 127.0.0.1:1", id="nobody listens"),
        pytest.param("https://{blob}/x", "No TLS connection to {blob}", id="no TLS"),
    ],
)
def test_a_host_that_cannot_be_reached_is_tried_again_and_then_named(stage, location, message):
    scene = stage()
    blob = scene.hub.blob_url.removeprefix("http://")
    scene.let_strike(
        f'[[fault]]\nkind = "download"\nwhat = "redirect"\nlocation = "{location}"\n'.replace("{blob}", blob)
    )
    ran = scene.mirror("--retries", "1")
    assert (ran.code, ran.report["assets_failed"], ran.report["retries"]) == (1, 2, 2), ran.err
    assert {(f.kind, f.attempts) for f in scene.failures()} == {("network", 2)}
    assert all(message.replace("{blob}", blob) in f.message for f in scene.failures())
    scene.let_strike("")
    assert scene.again("retry").code == 0
    scene.assert_whole()


@dataclass(frozen=True)
class Done:
    report: MirrorReport
    notices: list[Notice]
    requests: list[ReceivedRequest]
    files: list[bytes]
    failed: list[FailureRecord]

    def ranges(self) -> list[str | None]:
        return [
            request.headers.get("range") for request in self.requests if request.target.startswith("/assets/")
        ]


def mirrored(
    dest: Path,
    asset: Scripted | Callable[[Request], Scripted] | None = None,
    *,
    make: Callable[..., SmallApi] = SmallApi,
    **options: Any,
) -> Done:
    notices: list[Notice] = []

    def listen(event: object) -> None:
        if isinstance(event, Notice):
            notices.append(event)

    with make({"a": ["0"]}, asset=asset) as api:
        report = mirror(api.url("/collections/a"), dest, options=Options(**options), on_event=listen)
    found = [path for path in sorted(dest.glob("a/*/*")) if path.suffix != ".json"]
    return Done(report, notices, api.requests, [path.read_bytes() for path in found], list(failures(dest)))


LONG = bytes(range(256)) * 12_000
"""3,072,000 bytes."""
HALF = 2_000_000


def served(request: Request, *, fields: str, cut_at: int | None = None, body: bytes = LONG) -> bytes:
    start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
    if start:
        span = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}\r\n"
        head = f"HTTP/1.1 206 Partial\r\nContent-Length: {len(body) - start}\r\n{span}"
    return f"{head}{fields}\r\n".encode() + body[start:cut_at]


class CutsOnce:
    """Breaks the first answer off."""

    def __init__(self, fields: str) -> None:
        self.fields = fields
        self.first = True

    def __call__(self, request: Request) -> bytes:
        cut_at, self.first = HALF if self.first else None, False
        return served(request, fields=self.fields, cut_at=cut_at)


@pytest.mark.parametrize(
    ("fields", "resumed"),
    [
        pytest.param('ETag: "v1"\r\n', True, id="a strong ETag"),
        pytest.param("Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", True, id="a date"),
        pytest.param(
            'ETag: W/"v1"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n', True, id="weak, and a date"
        ),
        pytest.param('ETag: W/"v1"\r\n', False, id="a weak ETag"),
        pytest.param(
            "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            False,
            id="a date of the second of the response",
        ),
        pytest.param("", False, id="neither"),
    ],
)
def test_a_part_resumes_only_if_the_object_is_proven_to_be_the_same(tmp_path, fields, resumed):
    done = mirrored(tmp_path / "m", CutsOnce(fields))
    assert done.files == [LONG]
    first, second = done.ranges()
    assert first is None
    assert (second is not None) is resumed


def test_a_206_without_the_strong_etag_of_the_part_is_not_appended(tmp_path: Path) -> None:
    """Two versions have one date and one size, and the server ignores If-Range."""
    date, is_first = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", True

    def changed(request: Request) -> bytes:
        nonlocal is_first
        was_first, is_first = is_first, False
        if was_first:
            return served(request, fields=f'ETag: "v1"\r\n{date}', cut_at=HALF)
        return served(request, fields=date, body=LONG[::-1])

    done = mirrored(tmp_path / "m", changed)
    assert done.files == [LONG[::-1]]
    assert done.ranges()[0] is done.ranges()[-1] is None


def test_a_long_file_that_breaks_off_with_progress_costs_no_attempt(tmp_path: Path) -> None:
    """Every connection breaks after 1.2 MiB: each attempt gets somewhere, and `retries` is one."""
    body = LONG * 4

    def stingy(request: Request) -> bytes:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        kind = f"206 P\r\nContent-Range: bytes {start}-{len(body) - 1}/{len(body)}" if start else "200 OK"
        head = f'HTTP/1.1 {kind}\r\nContent-Length: {len(body) - start}\r\nETag: "v1"\r\n\r\n'
        return head.encode() + body[start : start + 1_700_000]

    done = mirrored(tmp_path / "m", stingy, retries=1)
    assert done.files == [body]
    assert 8 <= len(done.ranges()) <= 12
    assert done.report.retries == len(done.ranges()) - 1


def test_an_object_that_changes_at_each_attempt_fails(tmp_path: Path) -> None:
    """Two megabytes come in each attempt, of another version each: that is not progress."""
    versions = iter(range(1000))

    def restless(request: Request) -> bytes:
        version = f'ETag: "v{next(versions)}"\r\n'
        return served(replace(request, headers={}), fields=version, cut_at=HALF)

    done = mirrored(tmp_path / "m", restless, retries=3)
    assert (done.report.assets_failed, done.files) == (1, [])
    assert 4 <= len(done.ranges()) <= 6


def test_a_file_that_arrives_in_tiny_pieces_costs_attempts(tmp_path: Path) -> None:
    def stingier(request: Request) -> bytes:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        return served(request, fields='ETag: "v1"\r\n', cut_at=start + 100_000)

    done = mirrored(tmp_path / "m", stingier, retries=3)
    assert (done.report.assets_failed, len(done.ranges())) == (1, 4)


def test_a_206_of_unknown_total_may_be_followed_by_more(tmp_path: Path) -> None:
    chunk = b"%x\r\n" % HALF + LONG[:HALF] + b"\r\n"

    def answer(request: Request) -> bytes:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not start:
            return b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nTransfer-Encoding: chunked\r\n\r\n' + chunk
        if start >= len(LONG):
            return b"HTTP/1.1 416 No\r\nContent-Range: bytes */%d\r\n\r\n" % len(LONG)
        end = min(start + 500_000, len(LONG))
        head = f"HTTP/1.1 206 P\r\nContent-Range: bytes {start}-{end - 1}/*\r\nContent-Length: {end - start}"
        return f'{head}\r\nETag: "v1"\r\n\r\n'.encode() + LONG[start:end]

    assert mirrored(tmp_path / "m", answer).files == [LONG]


@pytest.mark.parametrize("known", [True, False], ids=["416 says the end", "nothing says the end"])
def test_a_response_without_a_length(tmp_path: Path, known: bool) -> None:
    """The first answer is cut short unnoticed: 206 to the question for more gives it away, 416 proves it."""
    dest = tmp_path / "m"
    first = True

    def unframed(request: Request) -> bytes:
        nonlocal first
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if not known or not start:
            cut, first = (700 if first and known else None), False
            return b"HTTP/1.0 200 OK\r\n\r\n" + LONG[:1000][:cut]
        if start >= 1000:
            return b"HTTP/1.0 416 No\r\nContent-Range: bytes */1000\r\n\r\n"
        span = f"Content-Range: bytes {start}-999/1000\r\n\r\n"
        return b"HTTP/1.0 206 P\r\n" + span.encode() + LONG[start:1000]

    done = mirrored(dest, unframed)
    assert done.files == [LONG[:1000]]
    assert (done.report.state, status(dest).assets_unproven) == ("complete", 0 if known else 1)
    unproven = [notice.text for notice in done.notices if notice.level == "warning"]
    said = "Files that may be incomplete: 1. The server sent no length"
    assert [text.startswith(said) for text in unproven] == ([] if known else [True])


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(50_000)),
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 3_000_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 3_000_000,
    ],
    ids=["fields", "one field", "interim responses", "a chunk extension"],
)
def test_endless_headers_are_limited_and_reported(tmp_path: Path, head: bytes) -> None:
    done = mirrored(tmp_path / "m", head, retries=1)
    assert done.report.assets_failed == 1
    assert 2 <= len(done.ranges()) <= 3  # one is free, if it came on a connection used before
    (failed,) = done.failed
    assert failed.kind in {"server", "truncated", "network"}, failed.message
    assert done.report.bytes_fetched < 500_000


class Dripping(SmallApi):
    """Answers for assets with interim responses, then with header fields: 200 bytes per second."""

    async def _answer_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        self.requests.append(requests := await read_request(reader, number))
        if not requests.target.startswith("/assets/"):
            writer.write(wire_of(self._turn(requests)))
            return True
        fields = b"HTTP/1.1 200 OK\r\n" + b"X-Padding: y\r\n" * 500
        is_first = [one.target for one in self.requests].count(requests.target) == 1
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" * 300 if is_first else fields:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.005)
        return False


def test_header_fields_sent_byte_by_byte_are_a_stall(tmp_path: Path) -> None:
    done = mirrored(tmp_path / "m", make=Dripping, retries=1, stall_timeout=2.0)
    assert [(f.kind, f.attempts) for f in done.failed] == [("stalled", 2)]
    assert "no complete head of a response in time" in done.failed[0].message
