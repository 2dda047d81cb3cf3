"""Real servers pass the suite of the fakes: what holds for a transport in memory holds for them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from tests.net.conformance_objects import FILE_KEYS, ObjectContract, Shelf, opened_http, opened_s3
from tests.servers.buckets import Bucket
from tests.servers.nginx import Nginx
from tests.servers.radosgw import OWNER, Radosgw


class TestRadosgw(ObjectContract):
    @pytest.fixture(autouse=True)
    def _server(self, gateway: Radosgw, bucket: Bucket) -> None:
        self.gateway, self.bucket = gateway, bucket

    @asynccontextmanager
    async def shelf(self, objects: Mapping[str, bytes]) -> AsyncIterator[Shelf]:
        for key, body in objects.items():
            self.bucket.put(key, body)
        async with opened_s3(self.gateway.url, OWNER) as s3:
            yield Shelf(s3, self.bucket.href, self.bucket.put)


class TestNginx(ObjectContract):
    keys = FILE_KEYS

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
