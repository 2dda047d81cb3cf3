"""The S3 transport passes the suite that every transport passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.net.conformance import Routes, TransportContract, World
from tests.net.memory import Fault
from tests.net.test_http import closed_port, transport
from tests.net.wire_server import WireServer

from stacpull.aws import AwsSettings, Credentials, encode_key
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.net.transport import Request
from stacpull.transfer.s3 import S3Transport

WITH_QUESTION_MARK = "/object?a=%2F&b=1"  # all of it is the key


class Signing:
    """Credentials for one endpoint."""

    def __init__(self, endpoint_url: str) -> None:
        self._settings = AwsSettings(endpoint_url=endpoint_url)

    async def settings(self) -> AwsSettings:
        return self._settings

    async def frozen(self) -> Credentials:
        return Credentials("AKID", "secret")

    async def renew(self, expired: Credentials) -> Credentials:
        return expired


class TestS3Transport(TransportContract):
    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        under_bucket = {"/data" + path: script for path, script in routes.items()}
        if "/object" in routes:
            under_bucket["/data" + encode_key(WITH_QUESTION_MARK)] = routes["/object"]
        async with WireServer(under_bucket) as server:
            refusing = any(answer.fault is Fault.REFUSED for script in routes.values() for answer in script)
            endpoint = f"http://127.0.0.1:{closed_port()}" if refusing else server.url("")
            http = transport()
            yield World(
                S3Transport(http, Signing(endpoint), S3Options(), clock=SystemClock()),
                lambda path: f"s3://data{path}",
                lambda: [Request(h.target, h.method, h.headers, h.body) for h in server.requests],
            )
            await http.close()
