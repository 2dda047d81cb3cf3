"""Connections of `http1` over TLS. `tests/net/test_http.py` tests both HTTP clients."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from tests.cancelling import until
from tests.http1.fast_transport import LOOPS, fast, fetch, serving
from tests.net.memory import Answer
from tests.net.wire_server import WireServer

from stacpull.models import Failure, FailureKind
from stacpull.net.transport import Request


@pytest.mark.parametrize("loop", LOOPS)
async def test_connections_and_tls_contexts_are_used_again(authority, loop, monkeypatch):
    made = Mock(wraps=ssl.create_default_context)  # takes 40 ms
    monkeypatch.setattr(ssl, "create_default_context", made)
    body = bytes(range(256)) * 12_000
    async with WireServer({"/": [Answer(body=body)]}, tls=authority.server()) as server:
        http = fast(ca_bundle=authority.bundle)
        bodies = [await fetch(http, server.url("/", "localhost")) for _ in range(3)]
        await (await http.send(Request(server.url("/", "localhost"), "POST"))).close()  # by aiohttp
        await http.close()
        assert (bodies, {r.connection for r in server.requests}, made.call_count) == ([body] * 3, {1, 2}, 1)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cancel", [False, True])
async def test_a_handshake_that_never_ends(cancel: bool, loop: Callable[[], Any]) -> None:
    begun = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.read(1)
        begun.set()
        await reader.read()

    async with serving(answer) as origin:
        http = fast(connect_timeout=30 if cancel else 1.5)
        task = asyncio.create_task(fetch(http, origin.replace("http:", "https:") + "/"))
        await until(lambda: begun.is_set() or task.done())
        if cancel:
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        await http.close()
        assert isinstance(result, asyncio.CancelledError) is cancel
        failure = None if isinstance(result, BaseException) else result
    if not cancel:
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.STALLED
