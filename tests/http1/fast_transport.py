"""The connections of `http1` as a `Transport` that passes the tests of transports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvloop
from tests.net.conformance import opened, transport
from tests.net.wire_server import Serving, StreamServer

from stacpull.http1.http1_transport import Http1Transport
from stacpull.models import Failure
from stacpull.net.bodies import read_whole
from stacpull.net.transport import Request, TransferError, Transport

fast = partial(transport, Http1Transport)
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def fetch(http: Transport, url: str, limit: int = 10_000_000) -> bytes | Failure:
    try:
        async with opened(http, Request(url)) as response:
            return await read_whole(response, limit)
    except TransferError as error:
        return error.failure


@asynccontextmanager
async def serving(answer: Serving, address: str = "127.0.0.1") -> AsyncIterator[str]:
    """Give the origin of a server that handles each connection with `answer`."""
    async with StreamServer(answer, address=address) as server:
        yield server.url("", f"[{address}]" if ":" in address else address)
