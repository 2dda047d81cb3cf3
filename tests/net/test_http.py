"""Both HTTP clients: that on aiohttp, and the connections of `http1`.

Addresses, TLS and proxies are tested with whole commands, in `tests/security`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from tests.cancelling import until
from tests.net.conformance import Routes, TransportContract, World, opened, transport
from tests.net.memory import Answer, MemoryTransport
from tests.net.wire_server import WireServer
from tests.virtual_clock import VirtualClock

from stacpull.clock import SystemClock
from stacpull.http1.http1_transport import Http1Transport
from stacpull.models import Failure, FailureKind
from stacpull.net.aiohttp_transport import AiohttpTransport
from stacpull.net.bodies import read_whole
from stacpull.net.transport import Purpose, Request, TransferError, Transport

HEAD = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[tuple[Transport, WireServer]]]


class TestAiohttpTransport(TransportContract):
    kind: type[Transport] = AiohttpTransport

    def transport(self, base: str, stall_timeout: float) -> Transport:
        return transport(self.kind, stall_timeout=stall_timeout)


class TestHttp1Transport(TestAiohttpTransport):
    kind = Http1Transport


class TestMemoryTransport(TransportContract):
    """What stands for a transport in other tests behaves like one."""

    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        base = "http://memory.example"
        clock = SystemClock() if len(routes) > 1 else VirtualClock()  # which does not wait to be cancelled
        http = MemoryTransport({base + path: answers for path, answers in routes.items()}, clock)
        yield World(http, lambda path: base + path, lambda: http.requests)


@pytest.fixture(params=[AiohttpTransport, Http1Transport])
def served(request: pytest.FixtureRequest) -> Serve:
    """Starts a server with these answers, and gives a transport to it."""

    @asynccontextmanager
    async def serve(answers: Mapping[str, Any]) -> AsyncIterator[tuple[Transport, WireServer]]:
        async with WireServer(answers) as server:
            http = transport(request.param)
            yield http, server
            await http.close()

    return serve


async def fetched(http: Transport, request: Request, limit: int = 1_000_000) -> bytes:
    async with opened(http, request) as response:
        return await read_whole(response, limit)


async def failure_at(http: Transport, request: Request) -> Failure:
    with pytest.raises(TransferError) as caught:
        await fetched(http, request)
    return caught.value.failure


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", FailureKind.TRUNCATED, "the end"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", FailureKind.SERVER, "malformed"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello", FailureKind.SERVER, "malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FailureKind.SERVER, "malformed"),
        (b"<html>not http at all</html>\r\n\r\n", FailureKind.SERVER, "malformed"),
        (b"HTTP/1.1 200 OK\r\nConte", FailureKind.NETWORK, "closed the connection"),
    ],
)  # fmt: skip
async def test_invalid_responses_are_failures(served, raw, kind, words):
    async with served({"/": [raw]}) as (http, server):
        failure = await failure_at(http, Request(server.url("/")))
    assert (failure.kind, failure.status, failure.retryable) == (kind, None, True)
    assert words in failure.message


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Length: 5\r\n\r\nhello and more",
        HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello!",
        HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        HEAD + b"X: a\r\n" * 20_000 + b"\r\n",
    ],
    ids=["more bytes", "more bytes, then the end", "a long field", "many fields"],
)
async def test_what_only_our_connections_name_is_temporary_too(served: Serve, raw: bytes) -> None:
    async with served({"/": [raw]}) as (http, server):
        failure = await failure_at(http, Request(server.url("/")))
    assert failure.kind in {FailureKind.OVERLONG, FailureKind.SERVER}
    assert (failure.status, failure.retryable) == (None, True)


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_head_ends_with_the_fields(served: Serve, framing: bytes) -> None:
    async with served({"/": [HEAD + framing + b"\r\n"]}) as (http, server):
        assert await fetched(http, Request(server.url("/"), "HEAD")) == b""


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://nowhere.invalid/x", FailureKind.NETWORK),
        ("http://127.0.0.1:99999/x", FailureKind.SCHEME),
        ("http:///x", FailureKind.SCHEME),
        ("ftp://127.0.0.1/x", FailureKind.SCHEME),
    ],
)
async def test_unreachable_hosts_are_reported_by_kind(served: Serve, url: str, kind: FailureKind) -> None:
    async with served({}) as (http, _):
        failure = await failure_at(http, Request(url))
    assert (failure.kind, failure.retryable) == (kind, kind is FailureKind.NETWORK)


async def test_a_url_reaches_the_server_unchanged_but_for_what_no_request_line_may_contain(served):
    targets = {
        "/a%2Fb/%24value?sig=a%2Bb%3D%3D&x='(1)'": None,
        "/a/../b/./c": None,
        "/download/gAAAAAB=?token=next:naip:1": None,
        "/%e2%82%ac?lower=%c3%a9": None,
        "/a b/é": "/a%20b/%C3%A9",
        "/x\r\nEvil: 1": "/x%0D%0AEvil:%201",
    }

    async with served({}) as (http, server):
        for target in targets:
            await fetched(http, Request(server.url(target)))
    assert all("evil" not in received.headers for received in server.requests)
    assert [one.target for one in server.requests] == [sent or target for target, sent in targets.items()]


async def test_the_fields_and_the_body_of_requests_on_one_connection(served: Serve) -> None:
    """No cookie that a server set is sent back."""
    answers = {"/": [Answer(body=b"x" * 50_000, headers={"Set-Cookie": "a=b"})]}
    async with served(answers) as (http, server):
        purposes: list[Purpose] = ["asset", "document", "asset"]
        for purpose in purposes:
            await fetched(http, Request(server.url("/"), purpose=purpose))
        await fetched(http, Request(server.url("/"), "POST", {"Content-Type": "application/json"}, b"{}"))
    asset, page, again, search = server.requests
    assert asset.headers["user-agent"].startswith("stacpull/")
    assert "(+https://" in asset.headers["user-agent"]
    assert (asset.headers["accept-encoding"], page.headers["accept-encoding"]) == ("identity", "gzip")
    assert not {"cookie", "authorization"} & set(again.headers)
    assert (search.method, search.body, search.headers["content-type"]) == ("POST", b"{}", "application/json")
    assert {asset.connection, page.connection, again.connection} == {1}


@pytest.mark.parametrize("kind", [AiohttpTransport, Http1Transport])
async def test_at_the_most_connections_the_longest_idle_one_is_closed_for_another(kind):
    script = {"/": [Answer()], "/long": [Answer(body=bytes(8 << 20))]}
    async with WireServer(script, address="0.0.0.0") as server:  # noqa: S104 -- it needs four hosts
        http = transport(kind, max_connections=3)
        for n in (1, 2, 3, 1, 4, 1, 4):
            await fetched(http, Request(f"http://127.0.0.{n}:{server.port}/"))
            if kind is Http1Transport and n == 3:
                await until(lambda: all(connection.quiet_ticks for connection in http.connections))
        assert server.connections == 4
        for held in [await http.send(Request(server.url("/long"))) for _ in range(4)]:  # none waits
            await held.close()
        await http.close()
