"""Real servers pass the suite of the fakes: what holds for a transport in memory holds for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from tests.net.conformance_objects import KEYS, ObjectContract, Shelf, opened_http, opened_s3
from tests.servers.buckets import Bucket, client
from tests.servers.moto_server import Moto
from tests.servers.nginx import Nginx
from tests.servers.radosgw import OWNER, Radosgw

pytestmark = pytest.mark.behaviour


@asynccontextmanager
async def bucket_shelf(
    url: str, keys: Any, bucket: Bucket, objects: Mapping[str, bytes]
) -> AsyncIterator[Shelf]:
    for key, body in objects.items():
        bucket.put(key, body)
    async with opened_s3(url, keys) as s3:
        yield Shelf(s3, bucket.href, bucket.put)


class TestRadosgw(ObjectContract):
    @pytest.fixture(autouse=True)
    def _server(self, gateway: Radosgw, bucket: Bucket) -> None:
        self.gateway, self.bucket = gateway, bucket

    def shelf(self, objects: Mapping[str, bytes]) -> Any:
        return bucket_shelf(self.gateway.url, OWNER, self.bucket, objects)


class TestMoto(ObjectContract):
    @pytest.fixture(autouse=True)
    def _server(self, moto_s3: Moto) -> Any:
        s3 = client(moto_s3.url, moto_s3.keys)
        self.moto, self.bucket = moto_s3, Bucket(s3)
        yield
        s3.close()

    def shelf(self, objects: Mapping[str, bytes]) -> Any:
        return bucket_shelf(self.moto.url, self.moto.keys, self.bucket, objects)


class TestNginx(ObjectContract):
    keys = tuple(key for key in KEYS if "//" not in key and ".." not in key)  # it has files, not keys

    @pytest.fixture(autouse=True)
    def _server(self, web: Nginx, request: pytest.FixtureRequest) -> None:
        self.web, self.folder = web, f"conformance-{abs(hash(request.node.name))}"

    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        for key, body in objects.items():
            self.web.put(f"{self.folder}/{key}", body)
        async with opened_http() as http:
            yield Shelf(
                http,
                lambda key: f"{self.web.url}/files/{self.folder}/{quote(key)}",
                lambda key, body: self.web.put(f"{self.folder}/{key}", body),
            )
