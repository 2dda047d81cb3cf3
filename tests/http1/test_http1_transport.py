"""The connections of `http1` on real sockets: what they send, when they are kept, what others send."""

import asyncio
import resource
from contextlib import suppress

import pytest
from tests.http1.fast_transport import HELLO, LOOPS, fast, fetch, serving
from tests.net.wire_server import WireServer

from stacpull.config.options import Options
from stacpull.engine.network import http_transport
from stacpull.http1.connection import Http1Connection
from stacpull.http1.http1_transport import Http1Transport
from stacpull.net.addresses import AddressPolicy
from stacpull.net.transport import Request, TransferError


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + HELLO,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_a_connection_is_not_reused_after_such_a_response(raw: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(raw if number == 1 else HELLO)

    async with serving(answer) as origin:
        http = fast(stall_timeout=0.5)
        await fetch(http, f"{origin}/")
        body = await fetch(http, f"{origin}/")
        await http.close()
        assert body == b"hello"


@pytest.mark.parametrize(
    ("wanted", "is_own"),
    [
        pytest.param(Request("http://127.0.0.1:1/a"), True, id="GET"),
        pytest.param(Request("http://127.0.0.1:1/a", "HEAD"), False, id="HEAD"),
        pytest.param(Request("http://127.0.0.1:1/a", "POST", body=b"{}"), False, id="POST"),
        pytest.param(Request("http://user@127.0.0.1:1/a"), False, id="unusual host"),
        pytest.param(Request("http://127.0.0.1:1/a", headers={"Range": "bytes=0-"}), True, id="field"),
        pytest.param(Request("http://127.0.0.1:1/a", headers={"X": "a\nb"}), False, id="unusual field"),
        pytest.param(Request("http://127.0.0.1:1/a", headers={"X\r\nY": "a"}), False, id="unusual name"),
        pytest.param(Request("http://127.0.0.1:1/a", headers={"X": "a\0"}), False, id="NUL"),
    ],
)
async def test_each_request_has_its_client(wanted: Request, is_own: bool) -> None:
    http = fast()
    with suppress(TransferError):
        await http.send(wanted)
    await http.close()
    assert (vars(http)["_aiohttp"] is None) is is_own


async def test_a_request_with_a_field_that_cannot_be_encoded_is_never_sent_without_it() -> None:
    http, unsendable = fast(), Request("http://127.0.0.1:1/a", headers={"X-Key": "\ud800"})
    for _ in range(2):
        assert http.prepare(unsendable) is None


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
async def test_a_connection_cancelled_as_it_opens_is_not_awaited(loop, monkeypatch):
    """uvloop then closes the transport without notifying the protocol."""
    http = fast()
    add = Http1Transport.add

    def add_and_give_up(pool: Http1Transport, connection: Http1Connection) -> None:
        add(pool, connection)
        fetching.cancel()

    monkeypatch.setattr(Http1Transport, "add", add_and_give_up)
    async with WireServer({"/": [HELLO]}) as server:
        fetching = asyncio.ensure_future(fetch(http, server.url("/")))
        with pytest.raises(asyncio.CancelledError):
            await fetching
        async with asyncio.timeout(60):
            await http.close()


@pytest.mark.parametrize(("files", "limit"), [(resource.RLIM_INFINITY, 2048), (1024, 512), (64, 32)])
def test_connections_are_limited_by_the_files_that_may_be_open(files, limit, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (files, files))
    assert http_transport(Options(), AddressPolicy())._settings.max_connections == limit
