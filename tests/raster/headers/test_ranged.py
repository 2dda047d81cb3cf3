"""Headers read with range requests from correct, broken and hostile servers, over real sockets."""

import asyncio
import gzip
import io
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from tests.net.wire_server import ReceivedRequest
from tests.raster.tiff.made import moved_to_the_end
from tests.transfer.origin import Answer, Reply, Thing, client, given, origin

from stacpull.aws import Credentials
from stacpull.config.options import S3Options
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import TransferError
from stacpull_raster.ranged import HeaderRead, read_header
from stacpull_raster.tiff import FIRST_READ, Header, parse_file


def made(*, side: int = 256) -> bytes:
    """Return a TIFF of noise with the directory before the pixels."""
    pixels = np.random.default_rng(side).integers(0, 255, (side, side), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    return file.getvalue()


EARLY = made()
LATE = moved_to_the_end(EARLY)


def header_of(data: bytes) -> Header:
    return parse_file(io.BytesIO(data), data)


def span(request: ReceivedRequest) -> tuple[int, int]:
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(first), int(last)


def read(answer: Answer) -> tuple[HeaderRead, list[ReceivedRequest]]:
    """Read the header of the file that `answer` serves; return it and the requests."""

    async def live() -> tuple[HeaderRead, list[ReceivedRequest]]:
        async with origin(answer) as served, client() as opened:
            found = await read_header(opened, f"{served.url}/a.tif", max_bytes=1 << 20)
            return found, served.requests

    return asyncio.run(live())


def failure(answer: Answer) -> Failure:
    with pytest.raises(TransferError) as caught:
        read(answer)
    return caught.value.failure


# Correct servers.


def test_a_header_at_the_front_takes_one_request_of_16_kib() -> None:
    found, requests = read(Thing(EARLY))
    assert found == HeaderRead(header_of(EARLY), len(EARLY), 1, FIRST_READ)
    assert [one.headers["range"] for one in requests] == ["bytes=0-16383"]


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"v1"', None, '"v1"'),
        ('W/"v1"', "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ('W/"v1"', None, None),
        (None, None, None),
    ],
)
def test_a_directory_at_the_end_costs_one_request_with_the_strongest_validator(etag, modified, condition):
    found, (first, second) = read(Thing(LATE, etag, modified))
    assert found.header == header_of(LATE)
    assert span(second)[0] == int.from_bytes(LATE[4:8], "little")
    assert ("if-range" in first.headers, second.headers.get("if-range")) == (False, condition)
    assert found.reads == 2
    assert found.bytes_read < FIRST_READ + 1000


# Servers that do not serve ranges.


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_200_is_read_only_up_to_the_header(framing: str) -> None:
    body = EARLY + bytes(30 << 20)
    reply = Reply(200, {}, body, framing)  # type: ignore[arg-type]
    found, requests = read(lambda _: reply)
    assert found.header == header_of(EARLY)
    assert found.size == (len(body) if framing == "length" else None)
    assert found.reads == len(requests) == 1
    assert found.bytes_read < 3 << 20  # what the transport had received by then, not all thirty


def test_a_200_with_a_header_beyond_the_limit_fails() -> None:
    late = moved_to_the_end(made(side=2500))
    caught = failure(lambda _: Reply(200, {}, late))
    assert caught.kind is FailureKind.FORMAT
    assert "1,048,576 bytes" in caught.message


def test_ranges_with_content_encoding_are_refused() -> None:
    coded = gzip.compress(EARLY)
    caught = failure(Thing(coded, headers={"Content-Encoding": "gzip"}))
    assert (caught.kind, caught.retryable) == (FailureKind.HTTP, False)
    assert "gzip" in caught.message


# Files that change.


def changing(*versions: Answer) -> Answer:
    """Serve the first request from the first version, the second from the second, and so on."""
    left: Iterator[Answer] = iter(versions)
    last = versions[-1]

    def answer(request: ReceivedRequest) -> Reply:
        return next(left, last)(request)

    return answer


OTHER = moved_to_the_end(made(side=300))
NEW = Thing(OTHER, '"v2"', "Tue, 02 Jan 2024 00:00:00 GMT")


def test_a_file_that_changes_between_requests_is_read_again() -> None:
    found, requests = read(changing(Thing(LATE), NEW))
    assert found.header == header_of(OTHER)
    assert [one.start for one in requests[:3]] == [0, span(requests[1])[0], 0]
    assert found.reads == 4


def test_a_server_that_ignores_if_range_does_not_mix_two_versions() -> None:
    found, _ = read(changing(Thing(LATE), NEW.ignoring_if_range, NEW))
    assert found.header == header_of(OTHER)


@pytest.mark.parametrize(("etag", "modified"), [('"v1"', None), (None, NEW.modified), ('W/"v1"', None)])
def test_a_range_without_a_validator_is_not_combined_with_another(etag, modified):
    first = Thing(LATE, etag, modified)
    silent = Thing(bytes(len(LATE)), None, None).ignoring_if_range
    caught = failure(changing(first, silent, first, silent))
    assert (caught.kind, caught.retryable) == (FailureKind.CHANGED, False)
    found, _ = read(changing(first, silent, first))
    assert found.header == header_of(LATE)


def test_a_file_that_keeps_changing_fails() -> None:
    third = Thing(LATE, '"v3"', "Wed, 03 Jan 2024 00:00:00 GMT")
    caught = failure(changing(Thing(LATE), NEW, NEW, third))
    assert (caught.kind, caught.retryable) == (FailureKind.CHANGED, False)


# Hostile and broken servers.


def test_a_shortened_range_is_requested_to_its_end() -> None:
    """A 206 may hold less than the requested range (RFC 9110, 15.3.7)."""

    def stingy(request: ReceivedRequest) -> Reply:
        start, end = span(request)
        piece = LATE[start : min(end + 1, start + 60)]
        fields = {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(LATE)}", "ETag": '"v1"'}
        return Reply(206, fields, piece)

    found, requests = read(stingy)
    assert found.header == header_of(LATE)
    assert len(requests) <= 10


# S3, retries, real files.


@pytest.mark.parametrize("redirected", [False, True])
async def test_s3_is_read_with_if_match(redirected: bool) -> None:
    """It ignores If-Range, and answers a failed If-Match with 412."""
    file = Thing(LATE)

    def answer(request: ReceivedRequest) -> Reply:
        is_failed = request.headers.get("if-match") not in {None, file.etag}
        return Reply(412) if is_failed else file.ignoring_if_range(request)

    async with origin(answer) as served:
        credentials = given(served.url, Credentials("AKID", "secret"), "us-east-1")
        options = S3Options(endpoint_url=served.url, region="us-east-1")
        async with (
            client(credentials, options) as opened,
            origin(lambda _: Reply(302, {"Location": "s3://bucket/a.tif"})) as first,
        ):
            href = f"{first.url}/a" if redirected else "s3://bucket/a.tif"
            found = await read_header(opened, href)
        assert found.header == header_of(LATE)
        assert [one.headers.get("if-match") for one in served.requests] == [None, '"v1"']
        assert all("range" in one.headers["authorization"] for one in served.requests)


def test_an_unknown_size_is_learnt_from_a_416() -> None:
    def of_unknown_size(body: bytes) -> Answer:
        def answer(request: ReceivedRequest) -> Reply:
            reply = Thing(body)(request)
            if reply.status == 206:
                reply.headers["Content-Range"] = reply.headers["Content-Range"].partition("/")[0] + "/*"
            return reply

        return answer

    found, _ = read(of_unknown_size(LATE))
    assert (found.header, found.size) == (header_of(LATE), None)
    caught = failure(of_unknown_size(LATE[:-10]))
    assert caught.kind is FailureKind.FORMAT


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_200_with_content_encoding_is_decoded(coding: str) -> None:
    coded = gzip.compress(EARLY) if coding == "gzip" else zlib.compress(EARLY)
    found, _ = read(lambda _: Reply(200, {"Content-Encoding": coding}, coded))
    assert (found.header, found.size) == (header_of(EARLY), None)


def unframed(body: bytes) -> Answer:
    """Serve a response that ends when the connection closes, so that a truncation looks complete."""
    return lambda _: Reply(200, {}, body, "close")


BROKEN = [
    pytest.param(Thing(b"no tiff" * 9000), FailureKind.FORMAT, False, id="no TIFF"),
    pytest.param(Thing(b""), FailureKind.FORMAT, False, id="empty, 416 at once"),
    pytest.param(lambda _: Reply(200), FailureKind.FORMAT, False, id="empty 200"),
    pytest.param(Thing(LATE[:-40]), FailureKind.FORMAT, False, id="cut in its late directory"),
    pytest.param(unframed(b""), FailureKind.TRUNCATED, True, id="empty 200 of no length"),
    pytest.param(unframed(LATE[:-40]), FailureKind.TRUNCATED, True, id="200 of no length, cut at its end"),
    pytest.param(lambda _: Reply(416), FailureKind.HTTP, False, id="416 without a total"),
    pytest.param(
        lambda _: Reply(206, {"Content-Range": "bytes 100-200/9999"}, bytes(101)),
        FailureKind.HTTP,
        False,
        id="another range",
    ),
    pytest.param(lambda _: Reply(206, {}, EARLY), FailureKind.HTTP, False, id="206 without its range"),
    pytest.param(
        lambda _: Reply(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n"),
        FailureKind.HTTP,
        False,
        id="several parts",
    ),
    pytest.param(
        lambda _: Reply(206, {"Content-Range": "bytes 0-16383/99999"}, EARLY[:99]),
        FailureKind.TRUNCATED,
        True,
        id="fewer bytes than its range",
    ),
    pytest.param(lambda _: Reply(404), FailureKind.GONE, False, id="404"),
    pytest.param(lambda _: Reply(500), FailureKind.SERVER, True, id="500"),
]


@pytest.mark.parametrize(("answer", "kind", "retryable"), BROKEN)
def test_unreadable_files_fail_with_a_reason(answer: Answer, kind: FailureKind, retryable: bool) -> None:
    caught = failure(answer)
    assert (caught.kind, caught.retryable) == (kind, retryable), caught.message
    assert caught.message.endswith(".")
    assert "127.0.0.1" in caught.message


def test_bytes_beyond_the_requested_range_are_ignored() -> None:
    def generous(request: ReceivedRequest) -> Reply:
        start, _ = span(request)
        body = (LATE + bytes(8 << 20))[start:]
        whole = len(LATE) + (8 << 20)
        return Reply(206, {"Content-Range": f"bytes {start}-{whole - 1}/{whole}"}, body)

    found, _ = read(generous)
    assert found.header == header_of(LATE)
    assert found.bytes_read < 5 << 20
