"""The conformance suite for transports. A subclass provides a transport and a server with scripted answers.

    class TestMyTransport(TransportContract):
        def world(self, routes):  # an async context manager that yields a World
            ...

Routes are paths (`/object`); answers are those of `tests.net.memory`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from tests.net.memory import Answer, Fault

from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import read_whole
from stacpull.net.transport import Request, Response, TransferError, Transport

T = TypeVar("T")
Routes = Mapping[str, Sequence[Answer]]

BODY = bytes(range(256)) * 400


@dataclass
class World:
    """A transport and its server."""

    transport: Transport
    url: Callable[[str], str]
    received: Callable[[], list[Request]]
    """The requests received by the server, with header names in lower case."""


@asynccontextmanager
async def opened(transport: Transport, request: Request) -> AsyncIterator[Response]:
    response = await transport.send(request)
    try:
        yield response
    finally:
        await response.close()


async def failure_of(world: World, request: Request, limit: int = 10_000_000) -> Failure:
    """Read the whole response, which must fail, and return the failure."""
    with pytest.raises(TransferError) as caught:
        async with opened(world.transport, request) as response:
            await read_whole(response, limit)
    return caught.value.failure


class TransportContract:
    """The suite. All answers have bodies of 100 KB, more than one packet."""

    def world(self, routes: Routes) -> AbstractAsyncContextManager[World]:
        raise NotImplementedError

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(main)

    def in_world(self, routes: Routes, scenario: Callable[[World], Coroutine[Any, Any, T]]) -> T:
        async def main() -> T:
            async with self.world(routes) as world:
                return await scenario(world)

        return self.run(main())

    def test_returns_status_fields_and_body(self) -> None:
        async def scenario(world: World) -> None:
            async with opened(world.transport, Request(world.url("/object"))) as response:
                assert response.status == 200
                assert response.url == world.url("/object")
                assert response.headers["etag"] == response.headers["ETag"] == '"v1"'
                assert response.headers.get("Content-Length") == str(len(BODY))
                assert await read_whole(response, len(BODY)) == BODY

        self.in_world({"/object": [Answer(body=BODY, headers={"ETag": '"v1"'})]}, scenario)

    @pytest.mark.parametrize("size", [1000, 65_536, 1_000_000])
    def test_yields_the_body_in_pieces(self, size: int) -> None:
        async def scenario(world: World) -> list[bytes]:
            async with opened(world.transport, Request(world.url("/object"))) as response:
                return [chunk async for chunk in response.chunks(size)]

        assert b"".join(self.in_world({"/object": [Answer(body=BODY)]}, scenario)) == BODY

    def test_an_empty_body_is_not_an_error(self) -> None:
        async def scenario(world: World) -> tuple[bytes, list[bytes]]:
            async with opened(world.transport, Request(world.url("/empty"))) as response:
                whole = await read_whole(response, 0)
            async with opened(world.transport, Request(world.url("/empty"))) as response:
                return whole, [chunk async for chunk in response.chunks(10)]

        assert self.in_world({"/empty": [Answer()]}, scenario) == (b"", [])

    @pytest.mark.parametrize("status", [206, 301, 304, 400, 401, 403, 404, 412, 416, 429, 500, 503])
    def test_no_status_is_a_failure_of_the_transport(self, status: int) -> None:
        async def scenario(world: World) -> int:
            async with opened(world.transport, Request(world.url("/object"))) as response:
                await read_whole(response, 1000)
                return response.status

        assert (
            self.in_world({"/object": [Answer(status, b"why", {"Location": "/elsewhere"})]}, scenario)
            == status
        )

    def test_sends_a_request_once_and_unchanged(self) -> None:
        request = {"Range": "bytes=5-", "If-Match": '"v1"', "X-Own": "1"}

        async def scenario(world: World) -> list[Request]:
            async with opened(
                world.transport, Request(world.url("/object?a=%2F&b=1"), headers=request)
            ) as response:
                await read_whole(response, 10)
            return world.received()

        (sent_request,) = self.in_world({"/object": [Answer(206, b"tail")]}, scenario)
        assert sent_request.method == "GET"
        sent = {name.lower(): value for name, value in sent_request.headers.items()}
        assert {name.lower(): value for name, value in request.items()}.items() <= sent.items()

    def test_head_has_no_body(self) -> None:
        async def scenario(world: World) -> tuple[str, bytes]:
            async with opened(world.transport, Request(world.url("/object"), "HEAD")) as response:
                return response.headers["Content-Length"], await read_whole(response, 0)

        assert self.in_world({"/object": [Answer(body=BODY)]}, scenario) == (str(len(BODY)), b"")

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
    def test_faults_are_retryable_failures(self, fault: Fault, kind: FailureKind) -> None:
        async def scenario(world: World) -> Failure:
            return await failure_of(world, Request(world.url("/object")))

        failure = self.in_world({"/object": [Answer(body=BODY, fault=fault)]}, scenario)
        assert (failure.kind, failure.retryable, failure.free) == (kind, True, False)
        assert failure.host

    def test_more_bytes_than_stated_are_overlong(self) -> None:
        async def scenario(world: World) -> Failure:
            return await failure_of(world, Request(world.url("/object")))

        failure = self.in_world({"/object": [Answer(body=b"small", fault=Fault.OVERLONG)]}, scenario)
        assert failure.kind in {
            FailureKind.OVERLONG,
            FailureKind.SERVER,
        }  # aiohttp's parser does not say which
        assert (failure.retryable, failure.status) == (True, None)

    def test_a_truncated_body_without_length_looks_complete(self) -> None:
        async def scenario(world: World) -> tuple[bool, bytes]:
            async with opened(world.transport, Request(world.url("/object"))) as response:
                return "Content-Length" in response.headers, await read_whole(response, len(BODY))

        framed, body = self.in_world({"/object": [Answer(body=BODY, fault=Fault.UNNOTICED)]}, scenario)
        assert not framed
        assert body == BODY[: len(BODY) // 2]

    def test_a_body_over_the_limit_is_not_read(self) -> None:
        async def scenario(world: World) -> Failure:
            return await failure_of(world, Request(world.url("/object")), limit=len(BODY) - 1)

        failure = self.in_world({"/object": [Answer(body=BODY)]}, scenario)
        assert (failure.kind, failure.retryable) == (FailureKind.OVERLONG, False)

    def test_a_fault_leaves_the_transport_usable(self) -> None:
        async def scenario(world: World) -> bytes:
            await failure_of(world, Request(world.url("/object")))
            async with opened(world.transport, Request(world.url("/object"))) as response:
                return await read_whole(response, len(BODY))

        answers = [Answer(body=BODY, fault=Fault.TRUNCATED), Answer(body=BODY)]
        assert self.in_world({"/object": answers}, scenario) == BODY

    def test_a_body_left_unread_leaves_the_transport_usable(self) -> None:
        async def scenario(world: World) -> bytes:
            async with opened(world.transport, Request(world.url("/object"))) as response:
                assert response.status == 200
            async with opened(world.transport, Request(world.url("/object"))) as response:
                return await read_whole(response, len(BODY))

        assert self.in_world({"/object": [Answer(body=BODY)]}, scenario) == BODY

    def test_can_be_cancelled_while_waiting(self) -> None:
        async def scenario(world: World) -> bytes:
            with pytest.raises(TimeoutError):
                async with (
                    asyncio.timeout(0.02),
                    opened(world.transport, Request(world.url("/silent"))) as response,
                ):
                    await read_whole(response, len(BODY))
            async with opened(world.transport, Request(world.url("/object"))) as response:
                return await read_whole(response, len(BODY))

        script = {"/silent": [Answer(fault=Fault.SILENT)], "/object": [Answer(body=BODY)]}
        assert self.in_world(script, scenario) == BODY

    def test_sends_many_requests_at_once(self) -> None:
        async def scenario(world: World) -> list[bytes]:
            async def one() -> bytes:
                async with opened(world.transport, Request(world.url("/object"))) as response:
                    return await read_whole(response, len(BODY))

            return await asyncio.gather(*(one() for _ in range(20)))

        assert self.in_world({"/object": [Answer(body=BODY)]}, scenario) == [BODY] * 20
