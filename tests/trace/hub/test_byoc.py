from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.trace.hub.desk import COLLECTION, TILE

from stacpull.errors import SourceError
from stacpull_trace.hub.replies import TileFile
from stacpull_trace.hub.tiles import file_path, next_token, parse_files, parse_tile, tile_path, tiles_path

BARE: dict[str, Any] = {"id": TILE, "path": "a/b/(BAND).tif", "status": "INGESTED"}


@pytest.mark.parametrize(
    ("name", "epsg", "created", "files"),
    [
        (
            "byoc_tile_planet_swc.json",
            4326,
            datetime(2023, 5, 19, 17, 24, 3, 568_877, tzinfo=UTC),
            {
                "swc": TileFile(726, '"a3fc3de84d685c9c32be374ef10773e2"'),
                "swc-qf": TileFile(402, '"2e2ca02d34c2484e6442c153d4f786b0"'),
            },
        ),
        (
            "byoc_tile_sentinel2_mosaic.json",
            32628,
            datetime(2023, 3, 16, 12, 56, 22, 205_845, tzinfo=UTC),
            None,
        ),
    ],
)
def test_recorded_tiles(
    shared_data: Path, name: str, epsg: int, created: datetime, files: dict[str, TileFile] | None
) -> None:
    raw = json.loads((shared_data / "sentinelhub" / name).read_text())
    tile = parse_tile(raw)
    assert (tile.id, tile.path, tile.status) == (raw["id"], raw["path"], raw["status"])
    assert (tile.created, tile.sensing_time) == (created, datetime.fromisoformat(raw["sensingTime"]))
    for parsed, described in [
        (tile.tile_geometry, raw["tileGeometry"]),
        (tile.cover_geometry, raw["coverGeometry"]),
    ]:
        assert parsed is not None
        assert parsed.epsg == epsg
        assert parsed.geometry == {key: described[key] for key in ("type", "coordinates")}
    metadata = raw["additionalData"]["filesMetadata"]
    expected = files or {key: TileFile(1328, one["etag"]) for key, one in metadata.items()}
    assert tile.files == expected
    assert len(tile.files) == len(metadata)


def test_the_recorded_files_of_an_arps_tile(shared_data: Path) -> None:
    described = json.loads((shared_data / "sentinelhub" / "arps_byoc_filesMetadata.json").read_text())
    tile = parse_tile(BARE | {"additionalData": {"filesMetadata": described}})
    assert tile.files == {
        "analysis_ready_ps_qa": TileFile(3521, '"9e4f9cbf89e7a024999cfb1af20cf52b"'),
        "analysis_ready_ps_sr": TileFile(3433, '"9a33f9fd8defffc0e312a9efdc22f352-23"'),
    }


@pytest.mark.parametrize("additional", [None, {}, {"filesMetadata": None}, {"filesMetadata": {}}])
def test_a_tile_may_have_no_files(additional: object) -> None:
    tile = parse_tile(BARE | {"additionalData": additional, "sensingTime": None})
    assert (tile.files, tile.sensing_time, tile.created, tile.cover_geometry) == ({}, None, None, None)


def test_a_file_with_few_fields() -> None:
    tile = parse_tile(BARE | {"additionalData": {"filesMetadata": {"qa": {}}}})
    assert tile.files == {"qa": TileFile(None, None)}


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, "data.id is None"),
        ({"created": "yesterday"}, "data.created is 'yesterday', not a time"),
        ({"additionalData": []}, "data.additionalData is"),
        ({"additionalData": {"filesMetadata": {"qa": 7}}}, "qa is 7, not an object"),
        (
            {"additionalData": {"filesMetadata": {"qa": {"headerSize": "big"}}}},
            "data.additionalData.filesMetadata.qa.headerSize is 'big', not a count",
        ),
    ],
)
def test_unreadable_replies_are_reported(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        parse_tile(BARE | changes)


@pytest.mark.parametrize("document", [["a.tif", "b c.tif"], {"data": ["a.tif", "b c.tif"]}])
def test_the_list_of_files(document: object) -> None:
    assert parse_files(document) == ("a.tif", "b c.tif")


@pytest.mark.parametrize("document", [None, {}, {"data": [1]}, [None]])
def test_an_invalid_list_of_files_is_reported(document: object) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        parse_files(document)


@pytest.mark.parametrize(
    ("links", "token"),
    [
        (None, None),
        ({}, None),
        ({"currentToken": "0"}, None),
        ({"nextToken": "abc"}, "abc"),
        ({"next": "https://h/byoc/v1/collections/x/tiles?count=100&viewtoken=a%2Bb"}, "a+b"),
        ({"next": "https://h/tiles?count=100"}, None),
    ],
)
def test_the_token_of_the_next_page(links: object, token: str | None) -> None:
    assert next_token({"data": [], "links": links}) == token


def test_paths() -> None:
    assert tiles_path(f"byoc-{COLLECTION}") == f"/collections/{COLLECTION}/tiles?count=100"
    assert tiles_path(COLLECTION, "a+b").endswith("/tiles?count=100&viewtoken=a%2Bb")
    assert tile_path(COLLECTION, "../x?y") == f"/collections/{COLLECTION}/tiles/..%2Fx%3Fy"
    assert file_path(COLLECTION, TILE) == f"/collections/{COLLECTION}/tiles/{TILE}/files"
    assert file_path(COLLECTION, TILE, "a b/c.tif").endswith("/files/a%20b/c.tif")
