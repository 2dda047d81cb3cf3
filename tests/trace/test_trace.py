"""Stopping a trace during a search that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from tests.virtual_clock import VirtualClock

from stacpull_trace import trace as tracing
from stacpull_trace.hub.replies import CatalogTile
from stacpull_trace.report import TraceReport


class Quiet:
    """A service without tiles: a search takes ten minutes."""

    processing_units = 0.0
    session = SimpleNamespace(counters=SimpleNamespace(requests=1, retries=0))

    async def search(self, *_: object, **__: object) -> AsyncIterator[CatalogTile]:
        await asyncio.sleep(600)
        for _tile in ():
            yield _tile


def test_a_stop_ends_a_hanging_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SH_CLIENT_ID", "id")
    monkeypatch.setenv("SH_CLIENT_SECRET", "secret")
    monkeypatch.setattr(tracing, "_hub", lambda *_: nullcontext(Quiet()))
    where = {"datetime": "2023-01-01/2023-01-05", "bbox": (-122.44, 37.75, -122.438, 37.752)}
    clock = VirtualClock()

    async def main() -> TraceReport:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1, stop.set)
        return await tracing.trace("c", **where, base_url="http://127.0.0.1:1", stop=stop)

    report = clock.run(main())
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert clock.monotonic() < 10
