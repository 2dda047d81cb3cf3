"""The conformance suite for transports with object servers, which mirroring relies on.

`conformance` tests a transport with scripted answers. Here a server has objects and behaves like servers of
its kind. The tests check the assumptions of downloading and resuming. A subclass provides a transport to a
server with given objects:

    class TestMine(ObjectContract):
        def shelf(self, objects):  # an async context manager that yields a Shelf
            ...
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from tests.net.conformance import opened, transport
from tests.transfer.origin import given

from stacpull.aws import Credentials
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.models import Validator
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.bodies import read_whole
from stacpull.net.fields import content_range, range_headers, validator_of
from stacpull.net.transport import Request, Transport
from stacpull.transfer.s3 import S3Transport
from stacpull_replicas import MemoryStore
from stacpull_replicas.blob import BlobHost, Sealer
from stacpull_replicas.object_store import DATASET_BUCKET
from stacpull_replicas.replica_server import ReplicaServer

T = TypeVar("T")

KEYS = (
    "plain/B02.tif",
    "a b/c+d.tif",
    "dollar$/it's (1)!.tif",
    "100%25/%2F%zz.tif",
    "double//slash///here",
    "up/../down/./x",
    "Grüße/日本/día 🛰.tif",
    "?q=1&a=b#c;d:e@f,g*~",
    'angle<>"quotes\\back|pipe^`{}[]',
)
FILE_KEYS = tuple(key for key in KEYS if "//" not in key and ".." not in key)  # paths of files
BODY = random.Random(1).randbytes(200_000)
OTHER = random.Random(2).randbytes(200_000)


@dataclass(frozen=True)
class Shelf:
    """A server's objects, and the transport to them."""

    transport: Transport
    url: Callable[[str], str]
    put: Callable[[str, bytes], object]
    """Replaces the object of a key."""


@dataclass(frozen=True)
class Got:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def validator(self) -> Validator:
        return validator_of(self.headers)


async def get(shelf: Shelf, key: str, method: str = "GET", **headers: str) -> Got:
    """Request an object; `If_Range` is the field `If-Range`."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with opened(shelf.transport, Request(shelf.url(key), method, fields)) as response:
        return Got(response.status, await read_whole(response, 10_000_000), response.headers)


async def rest(shelf: Shelf, key: str, size: int, validator: Validator) -> Got:
    """Request the bytes after `size` of the object with `validator`, like a resumed transfer."""
    fields = {name.replace("-", "_"): value for name, value in range_headers(size, validator).items()}
    return await get(shelf, key, **fields)


class ObjectContract:
    keys = KEYS
    """Keys that the server supports."""
    has_suffix_ranges = True

    def shelf(self, objects: Mapping[str, bytes]) -> AbstractAsyncContextManager[Shelf]:
        raise NotImplementedError

    async def test_every_key_has_its_own_bytes(self) -> None:
        objects = {key: f"these are the bytes of {key}".encode() for key in self.keys}
        async with self.shelf(objects) as shelf:
            assert {key: (await get(shelf, key)).body for key in objects} == objects

    async def test_a_whole_object_has_a_length_and_a_validator(self) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            got = await get(shelf, "a")
            assert (got.status, got.body) == (200, BODY)
            assert got.headers["Content-Length"] == str(len(BODY))
            assert got.validator.resumable
            again = await get(shelf, "a")
            assert again.validator == got.validator

    async def test_head_returns_the_same_fields_without_body(self) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            got, head = await get(shelf, "a"), await get(shelf, "a", "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == got.headers["Content-Length"]
            assert head.validator == got.validator

    async def test_an_empty_object(self) -> None:
        async with self.shelf({"empty": b""}) as shelf:
            got = await get(shelf, "empty")
            assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")

    @pytest.mark.parametrize("key", ["b", "a/b", "a%2Fb"])
    async def test_a_missing_object_is_404(self, key: str) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            assert (await get(shelf, key)).status == 404

    @pytest.mark.parametrize("size", [1, 70_000, len(BODY) - 1])
    async def test_a_download_resumes_at_the_offset(self, size: int) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            first = await get(shelf, "a")
            for known in (first.validator, Validator(None, first.validator.last_modified)):
                got = await rest(shelf, "a", size, known)
                assert (got.status, got.body) == (206, BODY[size:])
                assert content_range(got.headers) == (size, len(BODY) - 1, len(BODY))
                assert got.validator == first.validator

    async def test_a_download_never_resumes_with_another_object(self) -> None:
        """HTTP returns the whole new object, S3 refuses: both start from the beginning."""
        async with self.shelf({"a": BODY}) as shelf:
            first = await get(shelf, "a")
            shelf.put("a", OTHER)
            got = await rest(shelf, "a", 1000, first.validator)
            assert got.status in {200, 412}
            assert got.body == OTHER or got.status == 412

    async def test_a_range_after_the_last_byte_is_empty(self) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            first = await get(shelf, "a")
            assert (await rest(shelf, "a", len(BODY), first.validator)).status == 416

    @pytest.mark.parametrize("size", [1, len(BODY) - 1, len(BODY) + 1])
    async def test_the_last_bytes_are_sent(self, size: int) -> None:
        async with self.shelf({"a": BODY, "empty": b""}) as shelf:
            got = await get(shelf, "a", Range=f"bytes=-{size}")
            if self.has_suffix_ranges:
                assert (got.status, got.body) == (206, BODY[-size:])
                assert content_range(got.headers) == (max(0, len(BODY) - size), len(BODY) - 1, len(BODY))
            else:
                assert (got.status, got.body) == (200, BODY)
            assert (await get(shelf, "empty", Range=f"bytes=-{size}")).status in {200, 416}

    async def test_an_unchanged_object_is_not_sent_again(self) -> None:
        async with self.shelf({"a": BODY}) as shelf:
            first = await get(shelf, "a")
            assert first.validator.etag is not None
            same = await get(shelf, "a", If_None_Match=first.validator.etag)
            assert (same.status, same.body) == (304, b"")
            shelf.put("a", OTHER)
            changed = await get(shelf, "a", If_None_Match=first.validator.etag)
            assert (changed.status, changed.body) == (200, OTHER)

    async def test_many_at_once_do_not_mix(self) -> None:
        objects = {f"n{number}": BODY[number * 1000 :] for number in range(30)}
        async with self.shelf(objects) as shelf:
            got = await asyncio.gather(*(get(shelf, key) for key in objects))
            assert {key: found.body for key, found in zip(objects, got, strict=True)} == objects


@asynccontextmanager
async def opened_http() -> AsyncIterator[AiohttpTransport]:
    http = transport(stall_timeout=10)
    try:
        yield http
    finally:
        await http.close()


@asynccontextmanager
async def opened_s3(url: str, keys: Any) -> AsyncIterator[S3Transport]:
    """An S3 transport for one endpoint, signing with `keys` (`access_key`, `secret_key`)."""
    async with opened_http() as http:
        yield S3Transport(
            http, given(url, Credentials(keys.access_key, keys.secret_key)), S3Options(), clock=SystemClock()
        )


class Blobs(ReplicaServer):
    """Azure's blob service, as recorded."""

    server_names = ("blob",)

    def __init__(self, contents: Mapping[str, bytes], version: str) -> None:
        super().__init__()
        self.host = BlobHost(MemoryStore({DATASET_BUCKET: contents}), Sealer(b"k" * 32), version)

    def responders(self) -> Any:
        return {"blob": self.host.respond}
