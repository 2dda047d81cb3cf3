"""The object suite for fake and real transports with our test servers; tests/servers adds real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

from tests.net.conformance_objects import ObjectContract, Shelf
from tests.net.test_http import transport
from tests.transfer.origin import Given

from stacpull.aws import Credentials
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.net.http import HttpTransport
from stacpull.transfer.s3 import S3Transport
from stacpull_replicas import MemoryStore, S3Access, S3Replica
from stacpull_replicas.blob import NEW_VERSION, OLD_VERSION, BlobHost, Sealer
from stacpull_replicas.object_store import DATASET_BUCKET
from stacpull_replicas.replica_server import ReplicaServer


@asynccontextmanager
async def opened_http() -> AsyncIterator[HttpTransport]:
    """An HTTP transport that may connect to loopback."""
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
            http, Given(Credentials(keys.access_key, keys.secret_key), url), S3Options(), clock=SystemClock()
        )


class TestS3(ObjectContract):
    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        access = S3Access("AKIATEST", "secret")
        async with (
            S3Replica(store=MemoryStore({"data": objects}), access=access) as replica,
            opened_s3(replica.s3_url, access) as s3,
        ):
            change = partial(replica.change, "data")
            yield Shelf(s3, lambda key: f"s3://data/{key}", change)


class Blobs(ReplicaServer):
    """Azure's blob service, as recorded."""

    server_names = ("blob",)

    def __init__(self, contents: Mapping[str, bytes], version: str) -> None:
        super().__init__()
        self.host = BlobHost(MemoryStore({DATASET_BUCKET: contents}), Sealer(b"k" * 32), version)

    def responders(self) -> Any:
        return {"blob": self.host.respond}


class TestAzure(ObjectContract):
    version = NEW_VERSION

    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        held = dict(objects)
        async with Blobs(held, self.version) as blobs, opened_http() as http:

            def url(key: str) -> str:
                path, _, signature = blobs.host.signed_path(key).rpartition("?")
                return blobs.url("blob") + quote(path) + "?" + signature

            yield Shelf(http, url, held.__setitem__)


class TestAzureAsOldAccountsSpeak(TestAzure):
    version = OLD_VERSION
