from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.trace.hub.desk import COLLECTION

from stacpull.errors import UsageError
from stacpull_trace.hub.replies import TimeRange
from stacpull_trace.hub.statistics_request import (
    Calculation,
    RequestBounds,
    Resolution,
    Size,
    StatisticsRequest,
    bare_collection,
    collection_type,
    written,
)

NOVEMBER = TimeRange(datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC))
BOX = (-122.44, 37.75, -122.39, 37.79)


def request(**changes: Any) -> StatisticsRequest:
    fields: dict[str, Any] = {
        "collection": COLLECTION,
        "bounds": RequestBounds(BOX),
        "interval": NOVEMBER,
        "evalscript": "//VERSION=3",
        "grid": Size(497, 739),
    }
    return StatisticsRequest(**(fields | changes))


def test_a_request_as_the_service_accepts_it() -> None:
    calculations = {
        "scenes": Calculation(percentiles=(50,), edges=(0, 1, 2), band="B0"),
        "default": Calculation(edges=(-1.0, 1.0)),
    }
    assert request(calculations=calculations, last_step="SHORTEN").body() == {
        "input": {
            "bounds": {
                "bbox": list(BOX),
                "properties": {"crs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"},
            },
            "data": [
                {
                    "type": f"byoc-{COLLECTION}",
                    "dataFilter": {"mosaickingOrder": "mostRecent"},
                    "processing": {"upsampling": "NEAREST", "downsampling": "NEAREST"},
                }
            ],
        },
        "aggregation": {
            "timeRange": {"from": "2023-11-01T00:00:00Z", "to": "2023-12-01T00:00:00Z"},
            "aggregationInterval": {"of": "P1D", "lastIntervalBehavior": "SHORTEN"},
            "width": 497,
            "height": 739,
            "evalscript": "//VERSION=3",
        },
        "calculations": {
            "scenes": {
                "statistics": {"B0": {"percentiles": {"k": [50]}}},
                "histograms": {"B0": {"bins": [0, 1, 2]}},
            },
            "default": {"histograms": {"default": {"bins": [-1.0, 1.0]}}},
        },
    }


def test_a_geometry_in_utm_at_a_resolution() -> None:
    triangle = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    body = request(bounds=RequestBounds(geometry=triangle, epsg=32610), grid=Resolution(3, 3)).body()
    assert body["input"]["bounds"] == {
        "geometry": triangle,
        "properties": {"crs": "http://www.opengis.net/def/crs/EPSG/0/32610"},
    }
    assert (body["aggregation"]["resx"], body["aggregation"]["resy"]) == (3, 3)
    assert "width" not in body["aggregation"]
    assert "calculations" not in body


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": Size(2501, 10)}, "2501 by 10 pixels.* smaller area or a coarser"),
        ({"grid": Size(0, 10)}, "1 to 2500"),
        ({"grid": Resolution(0, 3)}, "greater than 0"),
        ({"bounds": RequestBounds()}, "a bounding box or a geometry"),
        ({"bounds": RequestBounds((1, 0, 0, 1))}, "west, south, east, north"),
        ({"calculations": {"a": Calculation(edges=(1, 1))}}, "ascend"),
        ({"calculations": {"a": Calculation(edges=(1,))}}, "two or more"),
    ],
)
def test_an_uncomputable_request_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        request(**changes).body()


def test_the_largest_grid() -> None:
    assert request(grid=Size(2500, 2500)).body()["aggregation"]["width"] == 2500


@pytest.mark.parametrize(
    ("given", "searched", "owned"),
    [
        (COLLECTION, f"byoc-{COLLECTION}", COLLECTION),
        (f"byoc-{COLLECTION}", f"byoc-{COLLECTION}", COLLECTION),
        (COLLECTION.upper(), f"byoc-{COLLECTION.upper()}", COLLECTION.upper()),
        ("sentinel-2-l2a", "sentinel-2-l2a", "sentinel-2-l2a"),
    ],
)
def test_a_collection_with_and_without_its_prefix(given: str, searched: str, owned: str) -> None:
    assert (collection_type(given), bare_collection(given)) == (searched, owned)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2023, 11, 1, tzinfo=UTC), "2023-11-01T00:00:00Z"),
        (datetime(2023, 11, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2023-10-31T23:00:00Z"),
        (datetime(2023, 11, 1, 0, 0, 0, 500_000, tzinfo=UTC), "2023-11-01T00:00:00.500000Z"),
    ],
)
def test_times_are_written_as_utc(time: datetime, text: str) -> None:
    assert written(time) == text
