from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.trace.hub.desk import COLLECTION

from stacpull.errors import SourceError
from stacpull_trace.hub.replies import Footprint, TimeRange
from stacpull_trace.hub.tiles import next_search, parse_page

NOVEMBER = TimeRange(datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC))
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, r"features\[0\].id`"),
        ({"properties": {}}, "`datetime`"),
        ({"properties": {"datetime": "9999-12-31T23:59:59-14:00"}}, "not a time"),
        ({"geometry": {**SQUARE, "crs": "EPSG:1"}}, "Expected `object`, got `str`"),
        ({"geometry": {**SQUARE, "crs": {"properties": {"name": "mine"}}}}, "not the name of a CRS"),
    ],
)
def test_unreadable_replies_are_reported(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        parse_page({"features": [ITEM | changes]})


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
