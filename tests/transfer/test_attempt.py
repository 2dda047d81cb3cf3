"""Fetching from servers that are right, clumsy or hostile, over real sockets."""

import base64
import gzip
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest
from msgspec import structs
from tests.net.wire_server import ReceivedRequest
from tests.transfer.origin import Answer, Origin, Reply, Thing, client, origin
from tests.transfer.part_files import PartFiles, no_file_in_dest, part_files

from stacpull.models import Checksum, Failure, FailureKind, Job, Validator
from stacpull.net.gate import MAX_REFUSALS
from stacpull.net.transport import TransferError
from stacpull.redact import href_hash
from stacpull.transfer.attempt import Downloader

LIMIT = 1000
SMALL = random.Random(1).randbytes(LIMIT)
LARGE = random.Random(2).randbytes(9 * LIMIT)
HALF = len(LARGE) // 2
V1 = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")


def job(url: str, **known: object) -> Job:
    base = Job("B02", url + "/p/B%2002.tif?sig=x", "c/i", "B02.tif", rowid=1, item_rowid=1, generation=1)
    return structs.replace(base, **{"media_type": "image/tiff", **known})


@pytest.fixture
def parts() -> Iterator[PartFiles]:
    with part_files() as parts:
        yield parts


@asynccontextmanager
async def fetching(answer: Answer, parts: PartFiles) -> AsyncIterator[tuple[Downloader, Origin]]:
    async with origin(answer) as served, client(stall_timeout=20.0) as opened:
        parts.href_hash = href_hash(job(served.url).href)
        with patch("stacpull.transfer.attempt.MAX_BODY_IN_MEMORY", LIMIT):
            yield Downloader(opened, parts, no_file_in_dest), served


async def refused(by: Downloader, wanted: Job, kind: FailureKind, *, retryable: bool, **how: bool) -> str:
    with pytest.raises(TransferError) as caught:
        await by.fetch(wanted, **how)
    assert (caught.value.failure.kind, caught.value.failure.retryable) == (kind, retryable)
    return caught.value.failure.message


# What a whole asset is, by the way it comes.


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("body", [b"", SMALL, SMALL + b"1", LARGE], ids=len)
async def test_complete_bodies_are_stored(framing: str, body: bytes, parts: PartFiles) -> None:
    """A body that lasts until the connection closes is proven by a 416."""
    thing = Thing(body)

    def answer(request: ReceivedRequest) -> Reply:
        reply = thing(request)
        return replace(reply, framing=framing) if reply.status == 200 else reply

    async with fetching(answer, parts) as (fetcher, served):
        received = await fetcher.fetch(job(served.url, name=None))
        assert parts.content(received) == body
        assert (received.body is not None) == (len(body) <= LIMIT)
        assert received.size == len(body)
        assert not received.unproven
        assert not received.part or "~" not in received.part
        assert received.etag_or_date == V1.etag_or_date
        assert received.filename == "B 02.tif"
        assert received.digest == (None if len(body) <= LIMIT else hashlib.sha256(body).digest())


STATED = {"checksum": Checksum("md5", hashlib.md5(LARGE, usedforsecurity=False).digest())}
REQUIRED = {"required_digest": hashlib.sha256(LARGE).digest()}
HREFS = [
    pytest.param("/p/B%2002.tif?sig=renewed", {}, HALF, id="a renewed signature"),
    pytest.param("/p/B%2002.tif?v=2&sig=x", {}, None, id="another query"),
    pytest.param("/mirror/B%2002.tif", {}, None, id="another path"),
    pytest.param("/mirror/B%2002.tif", STATED, HALF, id="another path, and a checksum"),
    pytest.param("/mirror/B02.tif", REQUIRED, HALF, id="another path, and a digest"),
]


@pytest.mark.parametrize(("href", "known", "start"), HREFS)
async def test_a_part_of_another_url_is_only_continued_under_a_checksum(href, known, start, parts):
    """Many servers call the first version of everything "1"."""
    async with fetching(Thing(LARGE), parts) as (fetcher, served):
        head = bytes(HALF) if start is None else LARGE[:HALF]
        await parts.park((0, head), validator=V1, total=len(LARGE))
        received = await fetcher.fetch(job(served.url, href=served.url + href, **known))
        assert parts.content(received) == LARGE
        assert [request.start for request in served.requests] == [start]
        assert not parts.is_parked


async def test_a_part_that_was_started_with_a_date_is_hashed_again_for_an_md5(parts: PartFiles) -> None:
    etag = f'"{hashlib.md5(LARGE, usedforsecurity=False).hexdigest()}"'
    async with fetching(Thing(LARGE, etag, headers={"Server": "AmazonS3"}), parts) as (fetcher, served):
        await parts.park((0, LARGE[:HALF]), validator=Validator(None, V1.last_modified), total=len(LARGE))
        assert parts.content(await fetcher.fetch(job(served.url))) == LARGE
        assert [request.start for request in served.requests] == [HALF]


NEW = Thing(LARGE[::-1], etag='"v2"', modified="Tue, 02 Jan 2024 00:00:00 GMT")


@pytest.mark.parametrize("total", [len(LARGE), None])
async def test_a_request_for_its_last_byte_proves_the_version_of_a_complete_part(total, parts):
    """A 416 for the byte after it has no ETag."""
    async with fetching(Thing(LARGE), parts) as (fetcher, served):
        await parts.park((0, LARGE), validator=V1, total=total)
        assert parts.content(await fetcher.fetch(job(served.url))) == LARGE
        assert [request.start for request in served.requests] == [len(LARGE) - 1]
        served.answer = NEW.ignoring_if_range
        await parts.park((0, LARGE), validator=V1, total=total)
        await refused(fetcher, job(served.url), FailureKind.CHANGED, retryable=True)
        assert parts.content(await fetcher.fetch(job(served.url))) == NEW.body


# Bytes that are missing, too many, or wrong.


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize(("coded", "size"), [(False, 5000), (True, 5000), (False, 0)])
async def test_a_wrong_size_is_detected_before_the_end_of_the_body(framing: str, coded: bool, size, parts):
    thing = Thing(LARGE * 400)
    if coded:
        packed = gzip.compress(random.Random(3).randbytes(3 << 20), 1)
        thing = Thing(packed, headers={"Content-Encoding": "gzip"})
    async with fetching(lambda request: replace(thing(request), framing=framing), parts) as (fetcher, served):
        served.cut(2 << 20, "stall")
        is_announced = framing == "length" and not coded
        kind = FailureKind.CHECKSUM if is_announced else FailureKind.OVERLONG
        message = await refused(fetcher, job(served.url, size=size), kind, retryable=True)
        assert str(size) in message.replace(",", "")
        assert not parts.is_parked


async def test_a_long_body_that_has_begun_ends_a_row_of_refusals(parts: PartFiles) -> None:
    refusal = Failure(FailureKind.REFUSED, "no.", 403)
    async with fetching(Thing(LARGE * 400), parts) as (fetcher, served):
        served.cut(2 << 20, "close")
        gate = fetcher.client.route(served.url + "/").gate
        assert all(gate.count_refusal(refusal, "asset") is refusal for _ in range(MAX_REFUSALS - 1))
        await refused(fetcher, job(served.url), FailureKind.TRUNCATED, retryable=True)
        assert gate.count_refusal(refusal, "asset") is refusal


@pytest.mark.parametrize("right", [True, False])
async def test_a_resumed_part_is_checked_against_the_digest_of_the_whole(right: bool, parts):
    stated = Checksum("sha512", hashlib.sha512(LARGE if right else SMALL).digest())
    async with fetching(Thing(LARGE), parts) as (fetcher, served):
        await parts.park((0, LARGE[:HALF]), validator=V1, total=len(LARGE))
        wanted = job(served.url, checksum=stated)
        if right:
            assert parts.content(await fetcher.fetch(wanted)) == LARGE
        else:
            await refused(fetcher, wanted, FailureKind.CHECKSUM, retryable=True)
        assert [request.start for request in served.requests] == [HALF]


# Content codings that were not requested.

CODED = gzip.compress(LARGE)
CODED_SHA = Checksum("sha256", hashlib.sha256(CODED).digest())


@pytest.mark.parametrize("body", [b"", SMALL, LARGE, LARGE * 1000], ids=len)
async def test_gzip_is_decoded_also_of_a_gzip_file_whose_size_shows_it(body: bytes, parts: PartFiles) -> None:
    coded = gzip.compress(body[: len(body) // 2], 1) + gzip.compress(body[len(body) // 2 :], 1)
    digest = base64.b64encode(hashlib.md5(coded, usedforsecurity=False).digest())
    headers = {"Content-Encoding": "gzip", "Content-MD5": digest.decode()}
    async with fetching(Thing(coded, headers=headers), parts) as (fetcher, served):
        received = await fetcher.fetch(job(served.url, href=served.url + "/t.csv.gz", size=len(body)))
        assert parts.content(received) == body
        assert not any(request.headers.get("accept-encoding") != "identity" for request in served.requests)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/t.csv.GZ?sig=x", {}),
        ("/t", {"media_type": "application/gzip"}),
        ("/t.tgz", {"checksum": CODED_SHA}),
    ],
)
async def test_a_gzip_file_is_stored_as_it_is(path: str, known: dict[str, object], parts: PartFiles) -> None:
    """Some servers state the coding of every file whose name ends with `.gz`."""
    async with fetching(Thing(CODED, headers={"Content-Encoding": "x-gzip"}), parts) as (fetcher, served):
        received = await fetcher.fetch(job(served.url, href=served.url + path, **known))
        assert parts.content(received) == CODED


@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_an_empty_file_has_no_coding_to_undo(coding: str, parts: PartFiles) -> None:
    async with fetching(Thing(b"", headers={"Content-Encoding": coding}), parts) as (fetcher, served):
        received = await fetcher.fetch(job(served.url))
        assert (parts.content(received), received.unproven) == (b"", False)


@pytest.mark.parametrize(
    ("coding", "body", "kind", "retryable"),
    [
        ("gzip", CODED[:-20], FailureKind.TRUNCATED, True),
        ("gzip", CODED[:50] + bytes(50) + CODED[100:], FailureKind.FORMAT, True),
        ("br", CODED, FailureKind.HTTP, False),
    ],
)
async def test_invalid_codings_are_failures(coding, body, kind, retryable, parts):
    async with fetching(Thing(body, headers={"Content-Encoding": coding}), parts) as (fetcher, served):
        await refused(fetcher, job(served.url), kind, retryable=retryable)
        assert not parts.is_parked
