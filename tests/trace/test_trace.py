"""Stopping a trace: during the search, during requests, and too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from tests.virtual_clock import VirtualClock

from stacpull_trace import trace as tracing
from stacpull_trace.hub.replies import (
    BandStatistics,
    ByocTile,
    CatalogTile,
    IntervalStatistics,
    StatisticsReply,
)
from stacpull_trace.hub.statistics_request import StatisticsRequest
from stacpull_trace.report import TraceReport

MIDNIGHT = datetime(2023, 1, 2, tzinfo=UTC)


class Quiet:
    """A service without tiles: a search has `pages` pages that take `pause` seconds each."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.processing_units = 0.0
        self.session = SimpleNamespace(counters=SimpleNamespace(requests=1, retries=0))

    async def search(self, *_: object, **__: object) -> AsyncIterator[CatalogTile]:
        await asyncio.sleep(self.pause)
        for _tile in ():
            yield _tile


class OneTile(Quiet):
    """A service with one tile of clear pixels."""

    async def search(self, *_: object, **__: object) -> AsyncIterator[CatalogTile]:
        yield CatalogTile("t", "c", MIDNIGHT, None)

    async def tile(self, _collection: str, name: str) -> ByocTile:
        return ByocTile(name, "x_(BAND).tif", "INGESTED", None, None, None, None)

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        band = BandStatistics(7.0, 7.0, 7.0, 0.0, 10, 0, {50.0: 7.0})
        outputs = {"default": {"B0": band}, "scenes": {"B0": band}}
        return StatisticsReply("OK", (IntervalStatistics(request.interval, outputs),))

    async def header(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(tags={"SCENE_IDS[LAYER_2_VALUE]": "PSScene/20230102_190003_53_2495[7]"})


async def traced(hub: Quiet, monkeypatch: pytest.MonkeyPatch, **more: Any) -> TraceReport:
    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Quiet]:
        yield hub

    monkeypatch.setenv("SH_CLIENT_ID", "id")
    monkeypatch.setenv("SH_CLIENT_SECRET", "secret")
    monkeypatch.setattr(tracing, "_hub", opened)
    where = {"datetime": "2023-01-01/2023-01-05", "bbox": (-122.44, 37.75, -122.438, 37.752)}
    return await tracing.trace("c", **where, base_url="http://127.0.0.1:1", **more)


def test_a_median_has_no_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    report = asyncio.run(traced(OneTile(), monkeypatch, method="median"))
    assert (report.days_valid, report.days_mismatched, report.days_failed) == (1, 0, 0)


def test_a_stop_ends_a_hanging_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()

    async def main() -> TraceReport:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1, stop.set)
        return await traced(Quiet(pause=600), monkeypatch, stop=stop)

    report = clock.run(main())
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert clock.monotonic() < 10


def test_a_late_stop_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tracing.trace_report

    async def main() -> TraceReport:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def late(*values: Any) -> TraceReport:
            asyncio.run_coroutine_threadsafe(_set(stop), loop).result()
            return made(*values)

        monkeypatch.setattr(tracing, "trace_report", late)
        return await traced(Quiet(), monkeypatch, stop=stop)

    report = asyncio.run(main())
    assert report.state == "complete"


async def _set(stop: asyncio.Event) -> None:
    stop.set()
