from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from msgspec.structs import replace
from tests.net.memory import Answer, Fault
from tests.net.wire_server import json_answer
from tests.trace.hub.desk import CLIENT_SECRET, COLLECTION, TILE, MemoryHub, all_of, error

from stacpull.errors import CredentialsError, SourceError, StacpullError, UsageError
from stacpull.models import FailureKind
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import TransferError
from stacpull_trace.hub.hub_client import Hub
from stacpull_trace.hub.replies import TimeRange
from stacpull_trace.hub.statistics_request import Size, StatisticsRequest

NOVEMBER = TimeRange(datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC))
BOX = (-122.44, 37.75, -122.39, 37.79)
SEARCH = "/api/v1/catalog/1.0.0/search"
STATISTICS = "/api/v1/statistics"
TILES = f"/api/v1/byoc/collections/{COLLECTION}/tiles"
NEW_SEARCH = "/catalog/v1/search"
NEW_STATISTICS = "/statistics/v1"
NEW_TILES = f"/byoc/v1/collections/{COLLECTION}/tiles"

REQUEST = StatisticsRequest(COLLECTION, BOX, NOVEMBER, "//VERSION=3", Size(497, 739))
STATS = {"min": 1, "max": 2, "mean": 1.5, "stDev": 0.5, "sampleCount": 4, "noDataCount": 1}
REPLY = {
    "data": [
        {
            "interval": {"from": "2023-11-02T00:00:00Z", "to": "2023-11-03T00:00:00Z"},
            "outputs": {"scenes": {"bands": {"B0": {"stats": STATS}}}},
        }
    ],
    "status": "OK",
}
TILE_DOCUMENT = {"id": TILE, "path": "2023/11/02/(BAND).tif", "status": "INGESTED"}


def item(name: str, time: str = "2023-11-02T00:00:00Z") -> dict[str, Any]:
    return {"id": name, "geometry": None, "properties": {"datetime": time}}


def features(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [item(name) for name in names], **more}


async def search(hub: Hub) -> list[str]:
    return [tile.id for tile in await all_of(hub.search(COLLECTION, NOVEMBER, bbox=BOX))]


class TestSearch:
    def test_pages_follow_each_other(self) -> None:
        pages = [
            json_answer(features("a", "b", context={"next": 2, "limit": 100, "returned": 2})),
            json_answer(features("b", "c", context={"next": 4})),
            json_answer(features("d", context={"next": 5})),
            json_answer(features("d", context={"returned": 1})),  # a new tile has moved it here
        ]
        memory = MemoryHub({SEARCH: pages})
        assert memory.run(search) == ["a", "b", "c", "d"]
        bodies = [orjson.loads(request.body or b"") for request in memory.requests[1:]]
        assert [body.get("next") for body in bodies] == [None, 2, 4, 5]
        assert all(body["limit"] == 100 and body["bbox"] == list(BOX) for body in bodies)
        assert {request.method for request in memory.requests[1:]} == {"POST"}

    def test_an_empty_page_is_the_end(self) -> None:
        endless = [
            json_answer(features("a", context={"next": 1})),
            json_answer(features(context={"next": 2})),
        ]
        assert MemoryHub({SEARCH: endless}).run(search) == ["a"]

    def test_a_cycle_of_pages_is_an_error(self) -> None:
        memory = MemoryHub({SEARCH: [json_answer(features("a", context={"next": 0}))]})
        with pytest.raises(SourceError, match="the same page again and again"):
            memory.run(search)
        assert len(memory.requests) == 3

    def test_the_end_of_the_period_is_not_part_of_it(self) -> None:
        times = [
            "2023-10-31T23:59:59Z",
            "2023-11-01T00:00:00Z",
            "2023-11-30T23:59:59.9Z",
            "2023-12-01T00:00:00Z",
        ]
        page = {"features": [item(time, time) for time in times]}
        assert MemoryHub({SEARCH: [json_answer(page)]}).run(search) == times[1:3]

    def test_an_unavailable_page_ends_the_run(self) -> None:
        pages = [json_answer(features("a", context={"next": 1})), Answer(500, b"oops")]
        with pytest.raises(SourceError, match="answered 500"):
            MemoryHub({SEARCH: pages}).run(search)


class TestPathFamilies:
    def test_the_other_family_is_tried_once_and_remembered(self) -> None:
        memory = MemoryHub(
            {
                NEW_SEARCH: [json_answer(features("a", context={"next": 1})), json_answer(features("b"))],
                NEW_STATISTICS: [json_answer(REPLY)],
                f"{NEW_TILES}/{TILE}": [json_answer({"data": TILE_DOCUMENT})],
            }
        )

        async def use(hub: Hub) -> None:
            assert await search(hub) == ["a", "b"]
            for _ in range(2):
                await hub.statistics(REQUEST)
                await hub.tile(COLLECTION, TILE)

        memory.run(use)
        assert memory.paths[1:] == [
            SEARCH, NEW_SEARCH, NEW_SEARCH, STATISTICS, NEW_STATISTICS,
            f"{TILES}/{TILE}", f"{NEW_TILES}/{TILE}", NEW_STATISTICS, f"{NEW_TILES}/{TILE}",
        ]  # fmt: skip


class TestStatistics:
    @pytest.mark.parametrize(
        "trouble",
        [
            Answer(503),
            Answer(502, b"gateway"),
            Answer(fault=Fault.CLOSED),
            Answer(body=b'{"da', fault=Fault.UNNOTICED),
        ],
        ids=str,
    )
    def test_transient_errors_are_retried(self, trouble: Answer) -> None:
        memory = MemoryHub({STATISTICS: [trouble, json_answer(REPLY)]})

        async def use(hub: Hub) -> int:
            await hub.statistics(REQUEST)
            return hub.session.counters.retries

        assert memory.run(use) == 1

    def test_a_permanent_error_fails_only_its_request(self) -> None:
        memory = MemoryHub({STATISTICS: [Answer(500)]}, policy=RetryPolicy(retries=2))
        with pytest.raises(TransferError) as caught:
            memory.run(lambda hub: hub.statistics(REQUEST))
        assert (caught.value.failure.kind, memory.paths.count(STATISTICS)) == (FailureKind.SERVER, 3)

    @pytest.mark.parametrize(("days", "times"), [(30, 1), (2, 1), (1, 3)])
    def test_only_requests_for_a_single_day_are_retried_after_a_timeout(self, days: int, times: int) -> None:
        memory = MemoryHub({STATISTICS: [Answer(fault=Fault.SILENT)]}, policy=RetryPolicy(retries=2))
        interval = TimeRange(NOVEMBER.start, NOVEMBER.start + timedelta(days=days))
        with pytest.raises(TransferError) as caught:
            memory.run(lambda hub: hub.statistics(replace(REQUEST, interval=interval)))
        assert (caught.value.failure.kind, memory.paths.count(STATISTICS)) == (FailureKind.STALLED, times)

    @pytest.mark.parametrize(
        ("refused", "kind", "code", "words"),
        [
            (error(400, "RENDERER_EXCEPTION", "Failed to evaluate script!"), UsageError, 2, "evalscript: "),
            (Answer(401), CredentialsError, 3, "SH_CLIENT_ID"),
            (error(409, "X", f"odd {CLIENT_SECRET}"), SourceError, 4, r"409 .odd \*\*\*."),
            (Answer(body=b"<html>"), SourceError, 4, "did not send JSON. Check --base-url"),
            (json_answer({"status": "OK", "data": [7]}), SourceError, 4, r"at `"),
        ],
    )  # fmt: skip
    def test_refusals(self, refused: Answer, kind: type[StacpullError], code: int, words: str) -> None:
        memory = MemoryHub({STATISTICS: [refused]})
        with pytest.raises(kind, match=words) as caught:
            memory.run(lambda hub: hub.statistics(REQUEST))
        assert caught.value.exit_code == code
        assert memory.paths.count(STATISTICS) == (2 if refused.status == 401 else 1)
