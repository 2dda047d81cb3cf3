"""Replies of the hub, as values: tiles, pages of a search, and statistics; recorded and made ones."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.trace.hub.desk import COLLECTION, TILE

from stacpull.errors import SourceError
from stacpull_trace.hub.replies import (
    BandStatistics,
    Bin,
    Footprint,
    Histogram,
    IntervalError,
    TileFile,
    parse_statistics,
)
from stacpull_trace.hub.tiles import next_search, parse_page, parse_tile

BARE: dict[str, Any] = {"id": TILE, "path": "a/b/(BAND).tif", "status": "INGESTED"}


@pytest.mark.parametrize(
    ("name", "epsg", "created", "files"),
    [
        (
            "byoc_tile_planet_swc.json",
            4326,
            datetime(2023, 5, 19, 17, 24, 3, 568_877, tzinfo=UTC),
            {"swc": TileFile(726), "swc-qf": TileFile(402)},
        ),
        (
            "byoc_tile_sentinel2_mosaic.json",
            32628,
            datetime(2023, 3, 16, 12, 56, 22, 205_845, tzinfo=UTC),
            None,
        ),
    ],
)
def test_recorded_tiles(shared_data, name, epsg, created, files):
    raw = json.loads((shared_data / "sentinelhub" / name).read_text())
    tile = parse_tile(raw)
    assert (tile.id, tile.path) == (raw["id"], raw["path"])
    assert tile.created == created
    for parsed, described in [
        (tile.tile_geometry, raw["tileGeometry"]),
        (tile.cover_geometry, raw["coverGeometry"]),
    ]:
        assert parsed is not None
        assert parsed.epsg == epsg
        assert parsed.geometry == {key: described[key] for key in ("type", "coordinates")}
    metadata = raw["additionalData"]["filesMetadata"]
    expected = files or dict.fromkeys(metadata, TileFile(1328))
    assert tile.files == expected
    assert len(tile.files) == len(metadata)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("2019/11/27/28V/(BAND).tif", "qa.tif"),
        ("a/b_(BAND).tiff", "b_qa.tiff"),
        ("(BAND)", "qa"),
        ("whole.tif", "whole.tif"),
    ],
)
def test_the_name_of_a_file_is_the_last_part_of_the_path(path: str, name: str) -> None:
    assert parse_tile(BARE | {"path": path}).filename("qa") == name


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
ITEM: dict[str, Any] = {
    "id": "a",
    "collection": f"byoc-{COLLECTION}",
    "geometry": {**SQUARE, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC::CRS84"}}},
    "bbox": [0, 0, 1, 1],
    "properties": {"datetime": "2023-11-02T10:00:00.5+02:00"},
}


def test_a_tile_field_by_field() -> None:
    (tile,) = parse_page({"features": [ITEM]})
    assert tile.id == "a"
    assert tile.time == datetime(2023, 11, 2, 8, 0, 0, 500_000, tzinfo=UTC)
    assert tile.footprint == Footprint(SQUARE, 4326)


@pytest.mark.parametrize(
    ("crs", "epsg"),
    [
        ("urn:ogc:def:crs:OGC::CRS84", 4326),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", 4326),
        ("urn:ogc:def:crs:EPSG::32628", 32628),
        ("http://www.opengis.net/def/crs/EPSG/0/32610", 32610),
        ("EPSG:3857", 3857),
    ],
)
def test_the_crs_of_a_geometry(crs: str, epsg: int) -> None:
    geometry = {**SQUARE, "crs": {"type": "name", "properties": {"name": crs}}}
    assert parse_page({"features": [ITEM | {"geometry": geometry}]})[0].footprint == Footprint(SQUARE, epsg)


def link(**changes: Any) -> dict[str, Any]:
    return {"links": [{"rel": "self"}, {"rel": "next", "href": "https://internal/x", **changes}]}


@pytest.mark.parametrize(
    ("page", "following"),
    [
        ({}, None),
        ({"context": {"returned": 3}, "links": []}, None),
        ({"context": None, "links": None}, None),
        ({"context": {"next": 100}}, {"limit": 9, "next": 100}),
        ({"context": {"next": 0}}, {"limit": 9, "next": 0}),
        ({"context": {"next": 5}, **link(body={"next": 6}, merge=True)}, {"limit": 9, "next": 5}),
        (link(method="POST", body={"next": "t"}, merge=True), {"limit": 9, "next": "t"}),
        (link(method="POST", body={"next": "t"}), {"next": "t"}),
    ],
)
def test_the_next_page(page: dict[str, Any], following: dict[str, Any] | None) -> None:
    assert next_search({"limit": 9}, page) == following


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("catalog_sh_cell15.json", datetime(2021, 1, 25, 7, 37, 20, tzinfo=UTC)),
        ("catalog_cdse_cell12.json", datetime(2021, 1, 25, 7, 37, 20, 296_000, tzinfo=UTC)),
    ],
)
def test_recorded_items(shared_data: Path, name: str, time: datetime) -> None:
    raw = json.loads((shared_data / "sentinelhub" / name).read_text())
    (tile,) = parse_page({"features": [raw]})
    assert (tile.id, tile.time) == (raw["id"], time)
    assert tile.footprint is not None
    assert tile.footprint.epsg == 4326
    assert tile.footprint.geometry["coordinates"] == raw["geometry"]["coordinates"]
    assert "crs" not in tile.footprint.geometry


STATS = {"min": 10.0, "max": 233.0, "mean": 208.5, "stDev": 69.5, "sampleCount": 9, "noDataCount": 4}
DAY = {"from": "2023-11-02T00:00:00Z", "to": "2023-11-03T00:00:00Z"}


def reply(stats: dict[str, Any] | None = None, **band: Any) -> dict[str, Any]:
    bands = {"B0": {"stats": STATS if stats is None else stats, **band}}
    return {"data": [{"interval": DAY, "outputs": {"scenes": {"bands": bands}}}], "status": "OK"}


def test_an_interval_field_by_field() -> None:
    histogram = {
        "bins": [{"lowEdge": 0.0, "highEdge": 1.0, "count": 3}, {"lowEdge": 1.0, "highEdge": 2, "count": 2}],
        "overflowCount": 7,
        "underflowCount": 1,
    }
    found = parse_statistics(reply(STATS | {"percentiles": {"50.0": 233.0}}, histogram=histogram))
    assert (found.status, found.error) == ("OK", None)
    day = found.intervals[0]
    assert day.interval == (datetime(2023, 11, 2, tzinfo=UTC), datetime(2023, 11, 3, tzinfo=UTC))
    assert day.error is None
    assert day.outputs["scenes"]["B0"] == BandStatistics(
        10.0, 233.0, 208.5, 69.5, 9, 4, {50.0: 233.0}, Histogram((Bin(0, 1, 3), Bin(1, 2, 2)), 1, 7)
    )


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("EXECUTION_ERROR", IntervalError("EXECUTION_ERROR")),
        ({"type": "TIMEOUT"}, IntervalError("TIMEOUT")),
        ({"type": "BAD_REQUEST", "message": "no band X"}, IntervalError("BAD_REQUEST", "no band X")),
    ],
)
def test_a_day_that_failed(error: object, meaning: IntervalError) -> None:
    document = reply()
    document["data"].append({"interval": DAY, "error": error})
    first, second = parse_statistics(document | {"status": "PARTIAL"}).intervals
    assert (first.error, second.error, second.outputs) == (None, meaning, {})


@pytest.mark.parametrize(
    ("document", "status", "error"),
    [
        ({"data": [], "status": "OK"}, "OK", None),
        ({"data": None, "status": "FAILED"}, "FAILED", None),
        ({"error": "COMMON_BAD_PAYLOAD"}, "FAILED", IntervalError("COMMON_BAD_PAYLOAD")),
        ({"error": {"code": "X", "message": "y"}}, "FAILED", IntervalError("X", "y")),
    ],
)
def test_replies_without_intervals(document: object, status: str, error: IntervalError | None) -> None:
    found = parse_statistics(document)
    assert (found.status, found.intervals, found.error) == (status, (), error)


def test_the_recorded_interval_of_the_notebook(shared_data: Path) -> None:
    raw = json.loads((shared_data / "sentinelhub" / "arps_stat_result_one_interval.json").read_text())
    day = parse_statistics({"data": [raw], "status": "OK"}).intervals[0]
    scenes = day.outputs["scenes"]["B0"]
    assert scenes.sample_count - scenes.no_data_count == 138_989
    assert scenes.percentiles == {50.0: 233.0}


BAND = ("data", 0, "outputs", "scenes", "bands", "B0")
ITEMS = {"features": [ITEM]}
UNREADABLE = [
    (parse_tile, BARE, ("id",), None, r"at `\$.id`"),
    (parse_tile, BARE, ("created",), "yesterday", "'yesterday' is not a time"),
    (parse_tile, BARE, ("additionalData",), [], r"at `\$.additionalData`"),
    (parse_tile, BARE, ("additionalData",), {"filesMetadata": {"qa": 7}}, "filesMetadata"),
    (parse_page, ITEMS, ("features", 0, "id"), "", r"features\[0\].id`"),
    (parse_page, ITEMS, ("features", 0, "properties"), {}, "`datetime`"),
    (parse_page, ITEMS, ("features", 0, "properties", "datetime"), "9999-12-31T23:59:59-14:00", "not a time"),
    (parse_page, ITEMS, ("features", 0, "geometry", "crs"), "EPSG:1", "Expected `object`, got `str`"),
    (parse_page, ITEMS, ("features", 0, "geometry", "crs", "properties", "name"), "mine", "not the name of"),
    (parse_statistics, reply(), ("status",), 7, r"Expected `str \| null`, got `int` - at `\$.status`"),
    (parse_statistics, reply(), ("data",), {}, r"at `\$.data`"),
    (parse_statistics, reply(), ("data", 0), None, r"at `\$.data\[0\]`"),
    (parse_statistics, reply(), ("data", 0, "interval", "to"), "soon", "'soon' is not a time"),
    (parse_statistics, reply(), ("data", 0, "error"), 5, r"at `\$.data\[0\].error`"),
    (parse_statistics, reply(), (*BAND, "stats", "min"), "low", "stats.min`"),
    (parse_statistics, reply(), (*BAND, "stats", "sampleCount"), -1, "stats.sampleCount`"),
    (parse_statistics, reply(), (*BAND, "stats", "noDataCount"), 1.5, "stats.noDataCount`"),
    (parse_statistics, reply(), (*BAND, "stats", "percentiles"), {"x": 1}, "percentiles`"),
    (parse_statistics, reply(), (*BAND, "histogram"), {"bins": [{}]}, "missing required field `lowEdge"),
]


@pytest.mark.parametrize(
    ("parse", "document", "place", "value", "words"),
    UNREADABLE,
    ids=[f"{row[0].__name__}-{row[2][-1]}-{number}" for number, row in enumerate(UNREADABLE)],
)
def test_an_error_names_its_place_in_the_reply(parse, document, place, value, words):
    changed = copy.deepcopy(document)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(SourceError, match=words):
        parse(changed)
