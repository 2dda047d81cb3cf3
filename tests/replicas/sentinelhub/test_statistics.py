"""Statistics compared with rasterio and numpy over the served files; histograms, units."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from tests.replicas.sentinelhub.judging import MASK, check_stats, grid, inside, sampled
from tests.replicas.sentinelhub.requests_made import CRS84, NDVI, UTM, request

CORNER = [538_500.0, 4_174_800.0, 541_800.0, 4_177_500.0]
"""A box around the corner of four tiles, in metres."""
TRIANGLE = {
    "type": "Polygon",
    "coordinates": [[[-122.60, 37.70], [-122.52, 37.73], [-122.57, 37.80], [-122.60, 37.70]]],
}
AREAS = {
    "four tiles, in metres": (
        {"bbox": CORNER, "properties": {"crs": UTM}},
        {"size": (220, 180)},
        (CORNER, 220, 180, "EPSG:32610", None),
    ),
    "by resolution": (
        {"bbox": CORNER, "properties": {"crs": UTM}},
        {"resolution": 15},
        (CORNER, 220, 180, "EPSG:32610", None),
    ),
    "a triangle in degrees": (
        {"geometry": TRIANGLE, "properties": {"crs": CRS84}},
        {"size": (211, 173)},
        ([-122.60, 37.70, -122.52, 37.80], 211, 173, "EPSG:4326", TRIANGLE),
    ),
    "a box that leaves the tiles": (
        {"bbox": [-122.85, 37.48, -122.74, 37.55]},
        {"size": (150, 120)},
        ([-122.85, 37.48, -122.74, 37.55], 150, 120, "EPSG:4326", None),
    ),
}
DAYS = ("2023-03-03", "2023-03-05")


def tiles_by_day(service, period, square=""):
    """Return the tiles by day from catalog and BYOC, the top ones first, optionally of one square."""
    found = {}
    for item in service.search(datetime="/".join(period), limit=100)["features"]:
        if square not in item["assets"]["data"]["href"]:
            continue
        tile = service.tile(item["id"]).json()["data"]
        day = tile["sensingTime"][:10]
        if day < period[1][:10]:
            found.setdefault(day, []).append((tile["created"], item["id"]))
    return {day: [tile for _, tile in sorted(tiles, reverse=True)] for day, tiles in found.items()}


@pytest.mark.parametrize("area_name", AREAS)
def test_statistics_equal_those_of_the_files(service, area_name):
    bounds, size, (box, width, height, crs, geometry) = AREAS[area_name]
    period = tuple(f"{day}T00:00:00Z" for day in DAYS)
    body = request(
        service.replica.collection_id,
        NDVI,
        bounds=bounds,
        **size,
        period=period,
        calculations={
            "ndvi": {"statistics": {"default": {"percentiles": {"k": [5, 50.5, 95]}}}},
            "scenes": {"histograms": {"B0": {"bins": list(range(602))}}},
        },
    )
    intervals = {i["interval"]["from"][:10]: i["outputs"] for i in service.statistics(body)["data"]}
    tiles = tiles_by_day(service, period)
    assert intervals.keys() <= tiles.keys()
    x, y = grid(box, width, height)
    seen_scenes = 0
    for day, on_top in tiles.items():
        pixels = sampled(service, on_top, x, y, crs)
        wanted = (pixels[MASK] == 1) & inside(geometry, x, y)
        if day not in intervals:
            assert not wanted.any()
            continue
        clear = wanted & (pixels["cloud_mask"] == 1)
        red, nir = (pixels[band][clear].astype(np.float64) for band in ("red", "nir"))
        ndvi = ((nir - red) / (nir + red)).astype(np.float32)
        found = intervals[day]["ndvi"]["bands"]["B0"]["stats"]
        check_stats(found, ndvi, width * height)
        if len(ndvi):
            expected = np.percentile(ndvi.astype(np.float64), [5, 50.5, 95])
            np.testing.assert_allclose(list(found["percentiles"].values()), expected, rtol=1e-12)
        scenes = intervals[day]["scenes"]["bands"]["B0"]
        check_stats(scenes["stats"], pixels["scene_mask"][clear], width * height)
        counts = {b["lowEdge"]: b["count"] for b in scenes["histogram"]["bins"] if b["count"]}
        assert counts == dict(zip(*np.unique(pixels["scene_mask"][clear], return_counts=True), strict=True))
        seen_scenes += len(counts)
    assert seen_scenes > 1


def test_a_tile_that_was_ingested_twice_shows_the_later_one(service):
    captures = service.replica.archive.captures
    later = next(c for c in captures if c.version == 1)
    found = service.search(datetime=later.sensed.strftime("%Y-%m-%dT%H:%M:%SZ"), limit=100)["features"]
    twins = [service.tile(item["id"]).json()["data"] for item in found]
    twins = sorted(
        (t for t in twins if t["path"].split("/")[3] == later.square.name), key=lambda t: t["created"]
    )
    assert [t["id"] for t in twins][-1] == later.id
    assert len(twins) == 2
    west, south, east, north = later.cover.representative_point().buffer(2000).bounds
    box = [west, south, east, north]
    day = later.day.isoformat()
    body = request(
        service.replica.collection_id,
        NDVI,
        bounds={"bbox": box, "properties": {"crs": UTM}},
        size=(100, 100),
        period=(f"{day}T00:00:00Z", f"{later.day + timedelta(days=1)}T00:00:00Z"),
    )
    (interval,) = service.statistics(body)["data"]
    x, y = grid(box, 100, 100)
    clear = {
        t["id"]: int((sampled(service, [t["id"]], x, y, "EPSG:32610")["cloud_mask"] == 1).sum())
        for t in twins
    }
    assert len(set(clear.values())) == 2
    stats = interval["outputs"]["ndvi"]["bands"]["B0"]["stats"]
    assert stats["sampleCount"] - stats["noDataCount"] == clear[later.id]


def test_processing_units(service):
    body = request(service.replica.collection_id, NDVI, size=(500, 400))
    reply = service.send("POST", "/statistics/v1", json=body)
    assert float(reply.headers["x-processingunits-spent"]) == pytest.approx(500 * 400 / 512**2 * 4 / 3 * 15)
    body = request(service.replica.collection_id, NDVI, size=(2, 2))
    reply = service.send("POST", "/statistics/v1", json=body)
    assert float(reply.headers["x-processingunits-spent"]) == 0.01


def test_histograms(service):
    edges = [-0.5, 0.0, 0.25, 0.9]
    calculations = {"ndvi": {"histograms": {"default": {"bins": edges}}}}
    body = request(service.replica.collection_id, NDVI, calculations=calculations)
    (first, empty, *_) = service.statistics(body)["data"]
    band = first["outputs"]["ndvi"]["bands"]["B0"]
    histogram, stats = band["histogram"], band["stats"]
    assert [(b["lowEdge"], b["highEdge"]) for b in histogram["bins"]] == list(pairwise(edges))
    counted = (
        sum(b["count"] for b in histogram["bins"]) + histogram["overflowCount"] + histogram["underflowCount"]
    )
    assert counted == stats["sampleCount"] - stats["noDataCount"] > 0
    nothing = empty["outputs"]["ndvi"]["bands"]["B0"]["histogram"]
    assert [b["count"] for b in nothing["bins"]] == [0, 0, 0]
