from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.net.conformance import DecodingContract, Routes, TransportContract, World
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer, read_request

from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressPolicy
from stacpull.net.bodies import read_whole
from stacpull.net.http import HttpTransport
from stacpull.net.transport import HttpSettings, Request, TransferError, opened

T = TypeVar("T")

LOCAL = AddressPolicy(allow_private=True)


def transport(**options: Any) -> HttpTransport:
    defaults: dict[str, Any] = {"policy": LOCAL, "stall_timeout": 0.3, "trust_env": False}
    return HttpTransport(HttpSettings(**(defaults | options)))


class TestHttpTransport(TransportContract, DecodingContract):
    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        async with WireServer(routes) as server:
            refusing = any(answer.fault is Fault.REFUSED for script in routes.values() for answer in script)
            port = closed_port() if refusing else server.port
            http = transport()
            yield World(
                http,
                lambda path: f"http://127.0.0.1:{port}{path}",
                lambda: [Request(h.target, h.method, h.headers, h.body) for h in server.requests],
            )
            await http.close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def failure_at(http: HttpTransport, request: Request) -> Failure:
    with pytest.raises(TransferError) as caught:
        async with opened(http, request) as response:
            await read_whole(response, 1_000_000)
    return caught.value.failure


def outcome_of_bytes(raw: bytes, *, decode: bool = False) -> bytes | Failure:
    """Return the body or the failure."""

    async def main() -> bytes | Failure:
        async with WireServer({"/": [raw]}) as server:
            http = transport()
            try:
                async with opened(http, Request(server.url("/"), decode=decode)) as response:
                    return await read_whole(response, 1_000_000)
            except TransferError as error:
                return error.failure
            finally:
                await http.close()

    return asyncio.run(main())


def failure_of_bytes(raw: bytes, *, decode: bool = False) -> Failure:
    outcome = outcome_of_bytes(raw, decode=decode)
    assert isinstance(outcome, Failure)
    return outcome


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello and more", FailureKind.OVERLONG, "more bytes"),
        (HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello!", FailureKind.OVERLONG, "more bytes"),
        (HEAD + b"Content-Length: 50\r\n\r\nhello", FailureKind.TRUNCATED, "before the end of the body"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", FailureKind.TRUNCATED, "the end"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", FailureKind.SERVER, "malformed"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello", FailureKind.SERVER, "malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FailureKind.SERVER, "malformed"),
        (b"<html>not http at all</html>\r\n\r\n", FailureKind.SERVER, "malformed"),
        (HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n", FailureKind.SERVER, "too many header fields"),
        (HEAD + b"X: a\r\n" * 5000 + b"\r\n", FailureKind.SERVER, "too many header fields"),
        (b"HTTP/1.1 200 OK\r\nConte", FailureKind.NETWORK, "closed the connection"),
        (b"", FailureKind.NETWORK, "closed the connection"),
    ],
)  # fmt: skip
def test_invalid_responses_are_failures(raw: bytes, kind: FailureKind, words: str) -> None:
    failure = failure_of_bytes(raw)
    assert (failure.kind, failure.status, failure.retryable, failure.free) == (kind, None, True, False)
    assert words in failure.message


def test_a_body_that_cannot_be_decoded_is_a_failure() -> None:
    raw = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    failure = failure_of_bytes(raw, decode=True)
    assert failure.kind is FailureKind.SERVER
    assert "cannot be decoded as gzip" in failure.message


@pytest.mark.parametrize("limit", [6000, 5999])
def test_an_encoded_body_is_decoded_within_the_limit(limit: int) -> None:
    coded = Answer(body=gzip.compress(b"page" * 1500), headers={"Content-Encoding": "gzip"})

    async def main() -> tuple[bytes | None, int]:
        async with WireServer({"/": [coded, coded]}) as server:
            http = transport()
            read = None
            with suppress(TransferError):
                async with opened(http, Request(server.url("/"), decode=True)) as response:
                    read = await read_whole(response, limit)
            async with opened(http, Request(server.url("/"))) as response:
                raw = await read_whole(response, limit)
            await http.close()
            return read, len(raw)

    expected = b"page" * 1500 if limit == 6000 else None
    assert asyncio.run(main()) == (expected, len(gzip.compress(b"page" * 1500)))


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_head_ends_with_the_fields(framing: bytes) -> None:
    async def main() -> tuple[int, bytes]:
        async with WireServer({"/": [HEAD + framing + b"\r\n"]}) as server:
            http = transport()
            async with opened(http, Request(server.url("/"), "HEAD")) as response:
                found = response.status, await read_whole(response, 100)
            await http.close()
            return found

    assert asyncio.run(main()) == (200, b"")


class Dripping(WireServer):
    """Answers with header fields, byte by byte."""

    async def _answer_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        await read_request(reader, number)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Padding: y\r\n" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)
        return False


def test_a_head_sent_byte_by_byte_stalls() -> None:
    async def main() -> Failure:
        async with asyncio.timeout(20), Dripping({}) as server:
            http = transport(connect_timeout=0.2, stall_timeout=0.2, min_rate=1000)
            failure = await failure_at(http, Request(server.url("/")))
            await http.close()
            return failure

    failure = asyncio.run(main())
    assert (failure.kind, failure.retryable) == (FailureKind.STALLED, True)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://nowhere.invalid/x", FailureKind.NETWORK),
        ("http://127.0.0.1:99999/x", FailureKind.SCHEME),
        ("http:///x", FailureKind.SCHEME),
        ("http://2130706433/x", FailureKind.SCHEME),
        ("http://127.1/x", FailureKind.SCHEME),
        ("ftp://127.0.0.1/x", FailureKind.SCHEME),
    ],
)
def test_unreachable_hosts_are_reported_by_kind(url: str, kind: FailureKind) -> None:
    async def main() -> Failure:
        http = transport()
        failure = await failure_at(http, Request(url))
        await http.close()
        return failure

    failure = asyncio.run(main())
    assert (failure.kind, failure.retryable) == (kind, kind is FailureKind.NETWORK)


def test_the_url_reaches_the_server_unchanged() -> None:
    targets = [
        "/a%2Fb/%24value?sig=a%2Bb%3D%3D&x='(1)'",
        "/a/../b/./c",
        "/download/gAAAAAB=?token=next:naip:1",
        "/%e2%82%ac?lower=%c3%a9",
    ]

    async def main() -> list[str]:
        async with WireServer({target: [Answer()] for target in targets}) as server:
            http = transport()
            for target in targets:
                async with opened(http, Request(server.url(target))) as response:
                    await read_whole(response, 10)
            await http.close()
            return [received.target for received in server.requests]

    assert asyncio.run(main()) == targets


def test_characters_invalid_in_a_request_line_are_encoded() -> None:
    async def main() -> list[str]:
        async with WireServer({}) as server:
            http = transport()
            for path in ["/a b/é", "/x\r\nEvil: 1"]:
                async with opened(http, Request(server.url(path))) as response:
                    await read_whole(response, 100)
            await http.close()
            assert all("evil" not in received.headers for received in server.requests)
            return [received.target for received in server.requests]

    assert asyncio.run(main()) == ["/a%20b/%C3%A9", "/x%0D%0AEvil:%201"]


def test_sends_a_user_agent_and_requests_no_coding() -> None:
    async def main() -> list[dict[str, str]]:
        async with WireServer({"/": [Answer(headers={"Set-Cookie": "a=b"})]}) as server:
            http = transport()
            for decode in (False, True, False):
                async with opened(http, Request(server.url("/"), decode=decode)) as response:
                    await read_whole(response, 10)
            await http.close()
            return [received.headers for received in server.requests]

    asset, page, again = asyncio.run(main())
    assert asset["user-agent"].startswith("stacpull/")
    assert "(+https://" in asset["user-agent"]
    assert (asset["accept-encoding"], page["accept-encoding"]) == ("identity", "gzip")
    assert "cookie" not in again
    assert "authorization" not in asset


def test_a_body_is_posted() -> None:
    async def main() -> tuple[str, bytes, str]:
        async with WireServer({"/search": [Answer()]}) as server:
            http = transport()
            request = Request(server.url("/search"), "POST", {"Content-Type": "application/json"}, b"{}")
            async with opened(http, request) as response:
                await read_whole(response, 10)
            await http.close()
            received = server.requests[0]
            return received.method, received.body, received.headers["content-type"]

    assert asyncio.run(main()) == ("POST", b"{}", "application/json")


def test_no_redirect_is_followed() -> None:
    async def main() -> tuple[int, str, int]:
        answers = {"/": [Answer(302, headers={"Location": "/next%20hop"})]}
        async with WireServer(answers) as server:
            http = transport()
            async with opened(http, Request(server.url("/"))) as response:
                result = response.status, response.headers["Location"]
            await http.close()
            return *result, len(server.requests)

    assert asyncio.run(main()) == (302, "/next%20hop", 1)


def test_connections_are_reused() -> None:
    async def main() -> set[int]:
        async with WireServer({"/": [Answer(body=b"x" * 50_000)]}) as server:
            http = transport()
            for _ in range(5):
                async with opened(http, Request(server.url("/"))) as response:
                    await read_whole(response, 100_000)
            await http.close()
            return {received.connection for received in server.requests}

    assert asyncio.run(main()) == {1}


def test_a_used_connection_that_breaks_during_a_response_is_charged() -> None:
    async def main() -> Failure:
        async with WireServer({"/ok": [Answer(body=b"ok")], "/cut": [b"HTTP/1.1 200 OK\r\nConte"]}) as server:
            http = transport()
            async with opened(http, Request(server.url("/ok"))) as response:
                await read_whole(response, 10)
            failure = await failure_at(http, Request(server.url("/cut")))
            await http.close()
            return failure

    assert not asyncio.run(main()).free


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "100.64.0.1",
            "169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "[fd00:ec2::254]",
            "0.0.0.0",  # noqa: S104 - judged, not bound to
        ],
    )  # fmt: skip
    def test_refused_before_any_connection(self, host: str) -> None:
        async def main() -> Failure:
            http = transport(policy=AddressPolicy(allow_private=False))
            with watched_connections() as tried:
                failure = await failure_at(http, Request(f"http://{host}:{closed_port()}/x"))
            assert tried == []
            await http.close()
            return failure

        failure = asyncio.run(main())
        assert (failure.kind, failure.retryable) == (FailureKind.ADDRESS, False)

    @pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "[fe80::1]"])
    def test_link_local_is_refused_even_if_private_is_allowed(self, host: str) -> None:
        async def main() -> Failure:
            http = transport()
            with watched_connections() as tried:
                failure = await failure_at(http, Request(f"http://{host}/latest/meta-data"))
            assert tried == []
            await http.close()
            return failure

        failure = asyncio.run(main())
        assert failure.kind is FailureKind.ADDRESS
        assert "link-local" in failure.message


_tried: list[object] | None = None


def _note_connection(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _tried is not None:
        _tried.append(arguments[1])


sys.addaudithook(_note_connection)


@contextmanager
def watched_connections() -> Iterator[list[object]]:
    """Yield the list of stream connections tried inside the context, on any socket."""
    global _tried  # noqa: PLW0603 - an audit hook can neither carry state nor be removed
    _tried = []
    try:
        yield _tried
    finally:
        _tried = None


class TestTls:
    def reach(self, certificate: tuple[Path, Path], host: str, bundle: Path | None) -> bytes | Failure:
        async def main() -> bytes | Failure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            async with WireServer({"/": [Answer(body=b"sealed")]}, tls=context) as server:
                asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
                http = transport(ca_bundle=bundle)
                try:
                    async with opened(http, Request(server.url("/", host))) as response:
                        return await read_whole(response, 100)
                except TransferError as error:
                    return error.failure
                finally:
                    await http.close()

        return asyncio.run(main())

    def test_a_bundle_is_trusted(self, certificate: tuple[Path, Path]) -> None:
        assert self.reach(certificate, "localhost", certificate[0]) == b"sealed"

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_an_unknown_or_wrong_certificate_is_final(
        self, certificate: tuple[Path, Path], host: str
    ) -> None:
        failure = self.reach(certificate, host, None if host == "localhost" else certificate[0])
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.retryable) == (FailureKind.NETWORK, False)
        assert "certificate" in failure.message


class TestProxies:
    """The proxy is the wire server. It receives whole URLs."""

    def through(self, monkeypatch: pytest.MonkeyPatch, url: str, **options: Any) -> list[str] | Failure:
        async def main() -> list[str] | Failure:
            async with WireServer({url: [Answer(body=b"by proxy")]}) as server:
                monkeypatch.setenv("http_proxy", server.url(""))
                monkeypatch.setenv("no_proxy", "direct.invalid")
                http = transport(**({"policy": AddressPolicy(), "trust_env": True} | options))
                try:
                    async with opened(http, Request(url)) as response:
                        assert await read_whole(response, 100) == b"by proxy"
                except TransferError as error:
                    return error.failure
                else:
                    return [received.target for received in server.requests]
                finally:
                    await http.close()

        return asyncio.run(main())

    def test_a_literal_address_is_judged_before_the_proxy_is_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failure = self.through(monkeypatch, "http://169.254.169.254/latest")
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.ADDRESS
