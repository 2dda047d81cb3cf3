"""A run with a service that fails in ways that the replica does not: retries and reported failures."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from tests.trace.areas import FIRST_DAY, area, day, tile

from stacpull.models import Failure, FailureKind
from stacpull.net.transport import TransferError
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.days import rows_of
from stacpull_trace.hub.replies import (
    BandStatistics,
    Bin,
    ByocTile,
    CatalogTile,
    Histogram,
    IntervalError,
    IntervalStatistics,
    StatisticsReply,
    TileFile,
    TimeRange,
)
from stacpull_trace.hub.statistics_request import StatisticsRequest
from stacpull_trace.indices import INDICES
from stacpull_trace.question import Method, question
from stacpull_trace.report import DayState, TraceDay
from stacpull_trace.request_plan import Days
from stacpull_trace.run import TraceResult, TraceRun

VALID = 100


@dataclass
class Scripted:
    """A service with one tile per day. `wrong` has the days whose statistics fail, and how often."""

    days: int = 6
    wrong: dict[int, int] = field(default_factory=dict)
    too_long: int = 10_000
    """Requests for more days than this fail."""
    unreachable: bool = False
    away: FailureKind = FailureKind.NETWORK
    """The kind of failure when it is unreachable."""
    gone: frozenset[str] = frozenset()
    files: tuple[str, ...] | None = ("analysis_ready_ps_qa", "analysis_ready_ps_sr")
    lacking: int = 0
    """The number of pixels missing in the histogram."""
    requests: list[Days] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)

    async def search(self, *_: Any, **__: Any) -> AsyncIterator[CatalogTile]:
        for number in range(self.days):
            yield CatalogTile(f"t{number}", tile("x", (0, 0, 12, 12), day=number).time, None)

    async def tile(self, _collection: str, name: str) -> ByocTile:
        if name in self.gone:
            raise TransferError(Failure(FailureKind.GONE, f"no tile {name}."))
        files = {} if self.files is None else dict.fromkeys(self.files, TileFile())
        return ByocTile(name, "x_(BAND).tif", None, None, None, files)

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        start, end = request.interval
        days = Days(start.date(), (end - timedelta(days=1)).date())
        self.requests.append(days)
        await asyncio.sleep(0)
        if self.unreachable:
            raise TransferError(Failure(self.away, "the network is down."))
        if len(days) > self.too_long:
            return StatisticsReply("FAILED", (), IntervalError("TIMEOUT", "too much"))
        return StatisticsReply("OK", tuple(self._interval(some) for some in days if some in self._known()))

    def _known(self) -> set[date]:
        return {day(number) for number in range(self.days)}

    def _interval(self, some: date) -> IntervalStatistics:
        interval = TimeRange(*Days(some, some).interval)
        number = (some - FIRST_DAY).days
        if self.wrong.get(number, 0) > 0:
            self.wrong[number] -= 1
            return IntervalStatistics(interval, error=IntervalError("EXECUTION_ERROR"))
        histogram = Histogram((Bin(7, 8, VALID - self.lacking),), 0, 0)
        value = BandStatistics(-1.0, 1.0, float(number), 0.5, 144, 144 - VALID)
        scenes = BandStatistics(7.0, 7.0, 7.0, 0.0, 144, 144 - VALID, histogram=histogram)
        return IntervalStatistics(interval, {"default": {"B0": value}, "scenes": {"B0": scenes}})

    async def header(self, _collection: str, tile: ByocTile, file: str) -> Any:
        self.headers.append((tile.id, file))
        if f"header {tile.id}" in self.gone:
            raise TransferError(Failure(FailureKind.GONE, f"no file {file}."))
        return SimpleNamespace(tags={"SCENE_IDS[LAYER_2_VALUE]": "PSScene/20231101_190003_53_2495[7]"})


def traced(service: Scripted, answers: AnswerStore | None = None, method: Method = "mode") -> TraceResult:
    async def work() -> TraceResult:
        trace_question = question(
            "byoc-c",
            area(),
            Days(day(0), day(30)),
            INDICES["ndwi"],
            resolution=3,
            method=method,
            base_url="u",
        )
        run = TraceRun(service, trace_question, answers or AnswerStore(), stop=asyncio.Event())
        catalog = await run.tiles()
        return await (run.by_mode if method == "mode" else run.by_median)(catalog)

    return asyncio.run(work())


def states(found: TraceResult) -> list[DayState]:
    return [row.state for row in rows(found)]


def rows(found: TraceResult) -> tuple[TraceDay, ...]:
    return rows_of(found.days, 144)[0]


def test_a_day_that_fails_once_is_requested_again() -> None:
    service = Scripted(wrong={2: 1})
    assert states(traced(service)) == [DayState.OK] * 6
    assert service.requests == [Days(day(0), day(5)), Days(day(2), day(2))]


def test_a_request_that_is_too_large_is_halved() -> None:
    service = Scripted(too_long=2)
    assert states(traced(service)) == [DayState.OK] * 6
    assert sorted(len(days) for days in service.requests) == [1, 1, 2, 2, 3, 3, 6]


@pytest.mark.parametrize("method", ["mode", "median"])
def test_a_longer_period_requests_only_missing_days(method: Method) -> None:
    answers = AnswerStore()
    short, long = Scripted(days=4), Scripted(days=6)
    traced(short, answers, method=method)
    found = traced(long, answers, method=method)
    assert long.requests == [Days(day(4), day(5))]
    assert found.days == traced(Scripted(days=6), method=method).days


@pytest.mark.parametrize(
    ("away", "requests"), [(FailureKind.NETWORK, 1), (FailureKind.SERVER, 16), (FailureKind.STALLED, 16)]
)
def test_an_unreachable_service_is_not_queried_for_each_day(away: FailureKind, requests: int) -> None:
    service = Scripted(days=31, unreachable=True, away=away)
    found = traced(service)
    assert states(found) == [DayState.FAILED] * 31
    assert len(service.requests) == requests
    assert rows(found)[0].problem == "the network is down"
    assert service.headers == []


def test_a_deleted_tile_keeps_its_counts() -> None:
    found = traced(Scripted(gone=frozenset({"t1", "header t4"})))
    expected = [DayState.FAILED if number in {1, 4} else DayState.OK for number in range(6)]
    assert states(found) == expected
    assert [row.valid for row in rows(found)] == [VALID] * 6
    problems = [row.problem for row in rows(found) if row.problem]
    assert "could not be found: no tile t1" in problems[0]
    assert "no file" in problems[1]


def test_a_qa_file_of_another_name_is_found() -> None:
    service = Scripted(files=("ps_sr", "ps_qa"))
    assert states(traced(service)) == [DayState.OK] * 6
    assert service.headers[0] == ("t0", "ps_qa")


def test_counts_that_do_not_add_up_mark_the_day() -> None:
    found = traced(Scripted(lacking=1))
    assert states(found) == [DayState.MISMATCH] * 6
    assert rows(found)[0].problem == "t0: 99 pixels in the histogram, 100 are valid"
