from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop
from tests.net.conformance import DecodingContract, Routes, TransportContract, World
from tests.net.wire_server import WireServer
from tests.net.test_http import closed_port

from stacpull.net.addresses import AddressPolicy
from stacpull.net.http import HttpTransport
from stacpull.net.lean import LeanTransport
from stacpull.net.memory import Fault
from stacpull.net.transport import Request

T = TypeVar("T")

LOCAL = AddressPolicy(allow_private=True)


def lean(**options: Any) -> LeanTransport:
    told: dict[str, Any] = {"policy": LOCAL, "stall_timeout": 0.3, "trust_env": False} | options
    return LeanTransport(fallback=HttpTransport(**told), **told)


class TestLeanTransport(TransportContract, DecodingContract):
    @asynccontextmanager
    async def world(self, routes: Routes) -> AsyncIterator[World]:
        async with WireServer(routes) as server:
            refusing = any(answer.fault is Fault.REFUSED for script in routes.values() for answer in script)
            port = closed_port() if refusing else server.port
            http = lean()
            yield World(
                http,
                lambda path: f"http://127.0.0.1:{port}{path}",
                lambda: [Request(h.target, h.method, h.headers, h.body) for h in server.heard],
            )
            await http.close()


class TestLeanTransportOnUvloop(TestLeanTransport):
    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
