"""The conformance suite for transports, with a server of scripted answers. A subclass provides a transport.

    class TestMyTransport(TransportContract):
        def transport(self, base, stall_timeout):  # `base` is the URL of the server
            ...

Routes are paths (`/object`); answers are those of `tests.net.memory`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer

from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressPolicy
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.bodies import read_whole
from stacpull.net.transport import HttpSettings, Request, Response, TransferError, Transport

T = TypeVar("T")
Routes = Mapping[str, Sequence[Answer]]

BODY = bytes(range(256)) * 400


@dataclass
class World:
    transport: Transport
    url: Callable[[str], str]
    received: Callable[[], list[Request]]
    """The requests received by the server, with header names in lower case."""

    def opened(self, path: str = "/object", **request: Any) -> AbstractAsyncContextManager[Response]:
        return opened(self.transport, Request(self.url(path), **request))


@asynccontextmanager
async def opened(transport: Transport, request: Request) -> AsyncIterator[Response]:
    response = await transport.send(request)
    try:
        yield response
    finally:
        await response.close()


async def failure_of(world: World, limit: int = 10_000_000) -> Failure:
    """Read the whole response, which must fail, and return the failure."""
    with pytest.raises(TransferError) as caught:
        async with world.opened() as response:
            await read_whole(response, limit)
    return caught.value.failure


class TransportContract:
    """The suite. All answers have bodies of 100 KB, more than one packet."""

    def transport(self, base: str, stall_timeout: float) -> Transport:
        raise NotImplementedError

    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        """A stall is noticed soon if all answers stall: else a busy machine might stall the others."""
        async with WireServer(routes) as server:
            faults = {answer.fault for answers in routes.values() for answer in answers}
            base = f"http://127.0.0.1:{1 if Fault.REFUSED in faults else server.port}"
            http = self.transport(base, 0.3 if faults <= {Fault.STALLED, Fault.SILENT} else 20.0)
            yield World(
                http,
                lambda path: base + path,
                lambda: [Request(h.target, h.method, h.headers, h.body) for h in server.requests],
            )
            await http.close()

    async def test_returns_status_fields_and_body(self) -> None:
        answers = [Answer(body=BODY, headers={"ETag": '"v1"'})]
        async with self.world({"/object": answers}) as world, world.opened() as response:
            assert response.status == 200
            assert response.url == world.url("/object")
            assert response.headers["etag"] == response.headers["ETag"] == '"v1"'
            assert response.headers.get("Content-Length") == str(len(BODY))
            assert await read_whole(response, len(BODY)) == BODY

    @pytest.mark.parametrize("size", [1000, 65_536, 1_000_000])
    async def test_yields_the_body_in_pieces(self, size: int) -> None:
        async with self.world({"/object": [Answer(body=BODY)]}) as world, world.opened() as response:
            assert b"".join([chunk async for chunk in response.chunks(size)]) == BODY

    async def test_an_empty_body_is_not_an_error(self) -> None:
        async with self.world({"/empty": [Answer()]}) as world:
            async with world.opened("/empty") as response:
                whole = await read_whole(response, 0)
            async with world.opened("/empty") as response:
                assert (whole, [chunk async for chunk in response.chunks(10)]) == (b"", [])

    @pytest.mark.parametrize("status", [206, 301, 304, 400, 401, 403, 404, 412, 416, 429, 500, 503])
    async def test_no_status_is_a_failure_of_the_transport(self, status: int) -> None:
        answers = [Answer(status, b"why", {"Location": "/elsewhere"})]
        async with self.world({"/object": answers}) as world, world.opened() as response:
            await read_whole(response, 1000)
            assert response.status == status

    async def test_sends_a_request_once_and_unchanged(self) -> None:
        request = {"Range": "bytes=5-", "If-Match": '"v1"', "X-Own": "1"}
        async with self.world({"/object": [Answer(206, b"tail")]}) as world:
            async with world.opened("/object?a=%2F&b=1", headers=request) as response:
                await read_whole(response, 10)
            (sent_request,) = world.received()
        assert sent_request.method == "GET"
        sent = {name.lower(): value for name, value in sent_request.headers.items()}
        assert {name.lower(): value for name, value in request.items()}.items() <= sent.items()

    async def test_head_has_no_body(self) -> None:
        answers = [Answer(body=BODY)]
        async with self.world({"/object": answers}) as world, world.opened(method="HEAD") as response:
            assert response.headers["Content-Length"] == str(len(BODY))
            assert await read_whole(response, 0) == b""

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault.TRUNCATED, FailureKind.TRUNCATED),
            (Fault.STALLED, FailureKind.STALLED),
            (Fault.SILENT, FailureKind.STALLED),
            (Fault.CLOSED, FailureKind.NETWORK),
            (Fault.REFUSED, FailureKind.NETWORK),
        ],
    )
    async def test_faults_are_retryable_failures(self, fault: Fault, kind: FailureKind) -> None:
        async with self.world({"/object": [Answer(body=BODY, fault=fault)]}) as world:
            failure = await failure_of(world)
        assert (failure.kind, failure.retryable) == (kind, True)
        assert failure.host

    async def test_a_truncated_body_without_length_looks_complete(self) -> None:
        answers = [Answer(body=BODY, fault=Fault.UNNOTICED)]
        async with self.world({"/object": answers}) as world, world.opened() as response:
            framed, body = "Content-Length" in response.headers, await read_whole(response, len(BODY))
        assert not framed
        assert body == BODY[: len(BODY) // 2]

    async def test_a_body_over_the_limit_is_not_read(self) -> None:
        async with self.world({"/object": [Answer(body=BODY)]}) as world:
            failure = await failure_of(world, limit=len(BODY) - 1)
        assert (failure.kind, failure.retryable) == (FailureKind.OVERLONG, False)

    async def test_a_fault_leaves_the_transport_usable(self) -> None:
        answers = [Answer(body=BODY, fault=Fault.TRUNCATED), Answer(body=BODY)]
        async with self.world({"/object": answers}) as world:
            await failure_of(world)
            async with world.opened() as response:
                assert await read_whole(response, len(BODY)) == BODY

    async def test_a_body_left_unread_leaves_the_transport_usable(self) -> None:
        async with self.world({"/object": [Answer(body=BODY)]}) as world:
            async with world.opened() as response:
                assert response.status == 200
            async with world.opened() as response:
                assert await read_whole(response, len(BODY)) == BODY

    async def test_can_be_cancelled_while_waiting(self) -> None:
        script = {"/silent": [Answer(fault=Fault.SILENT)], "/object": [Answer(body=BODY)]}
        async with self.world(script) as world:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02), world.opened("/silent") as response:
                    await read_whole(response, len(BODY))
            async with world.opened() as response:
                assert await read_whole(response, len(BODY)) == BODY

    async def test_sends_many_requests_at_once(self) -> None:
        async with self.world({"/object": [Answer(body=BODY)]}) as world:

            async def read_body() -> bytes:
                async with world.opened() as response:
                    return await read_whole(response, len(BODY))

            assert (await asyncio.gather(*(read_body() for _ in range(20)))) == [BODY] * 20


def transport(kind: Callable[[HttpSettings], Transport] = AiohttpTransport, **options: Any) -> Any:
    """Return a transport that may connect to loopback."""
    defaults: dict[str, Any] = {"ip_policy": AddressPolicy(allow_private=True), "stall_timeout": 20.0}
    return kind(HttpSettings(**(defaults | options)))
