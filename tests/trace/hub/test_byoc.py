from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.trace.hub.desk import TILE

from stacpull.errors import SourceError
from stacpull_trace.hub.replies import TileFile
from stacpull_trace.hub.tiles import parse_tile

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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, r"at `\$.id`"),
        ({"created": "yesterday"}, "'yesterday' is not a time"),
        ({"additionalData": []}, r"at `\$.additionalData`"),
        ({"additionalData": {"filesMetadata": {"qa": 7}}}, "filesMetadata"),
    ],
)
def test_unreadable_replies_are_reported(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        parse_tile(BARE | changes)
