"""The object suite for fake and real transports with our test servers; tests/servers adds real servers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from tests.net.conformance_objects import FILE_KEYS, Blobs, ObjectContract, Shelf, opened_http, opened_s3

from stacpull.transfer.local import LocalTransport
from stacpull_replicas import MemoryStore, S3Access, S3Replica
from stacpull_replicas.blob import NEW_VERSION, OLD_VERSION


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


class TestAzure(ObjectContract):
    version = NEW_VERSION
    has_suffix_ranges = False

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


class TestLocal(ObjectContract):
    keys = FILE_KEYS
    test_a_missing_object_is_404 = None  # there is no response: `tests/transfer/test_local.py`

    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        with TemporaryDirectory() as name:
            root = Path(name)

            def put(key: str, body: bytes) -> None:
                (root / key).parent.mkdir(parents=True, exist_ok=True)
                (root / "new").write_bytes(body)
                (root / "new").replace(root / key)

            for key, body in objects.items():
                put(key, body)
            local = LocalTransport(f"{root.as_uri()}/catalog.json")
            yield Shelf(local, lambda key: f"{root.as_uri()}/{quote(key)}", put)
