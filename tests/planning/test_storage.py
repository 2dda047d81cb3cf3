"""The storage of assets in both versions of the storage extension."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull.models import Json
from stacpull.planning.statements import Storage, states_storage, storage_at, storage_of

AWS = {"type": "aws-s3", "region": "us-west-2", "requester_pays": True}
OWN = {"type": "custom-s3", "platform": "https://s3.h.test", "requester_pays": False}
V1 = {"storage:platform": "AWS", "storage:region": "us-west-2", "storage:requester_pays": True}
NOTHING = Storage()
PAID = Storage(requester_pays=True)
PAID_THERE = Storage("us-west-2", requester_pays=True)
TABLE: list[tuple[Json, Json, Storage]] = [
    ({}, {}, NOTHING),
    ({}, V1, PAID_THERE),
    (V1, {}, PAID_THERE),
    (V1, {"storage:requester_pays": False}, Storage("us-west-2")),
    (V1, {"storage:region": "eu-west-1"}, Storage("eu-west-1", requester_pays=True)),
    ({}, {"storage:platform": "Azure", "storage:region": "westus2"}, NOTHING),
    ({}, {"storage:region": 7, "storage:requester_pays": "yes"}, NOTHING),
    ({"storage:schemes": {"a": AWS}}, {"storage:refs": ["a"]}, PAID_THERE),
    ({"storage:schemes": {"a": AWS, "o": OWN}}, {"storage:refs": ["o", "a"]}, NOTHING),
    ({"storage:schemes": {"a": AWS}}, {"storage:refs": ["gone"]}, NOTHING),
    ({"storage:schemes": {"a": AWS}}, {"storage:refs": []}, NOTHING),
    ({"storage:schemes": {"a": AWS}}, {"storage:refs": "a"}, NOTHING),
    ({"storage:schemes": ["a"]}, {"storage:refs": ["a"]}, NOTHING),
    ({"storage:schemes": {"a": {**AWS, "region": 3}}}, {"storage:refs": ["a", 4]}, PAID),
]


@pytest.mark.parametrize(("properties", "asset", "expected"), TABLE)
def test_storage_of_assets(properties: Json, asset: Json, expected: Storage) -> None:
    assert storage_of({"properties": properties}, asset) == expected


RECORDED = [
    ("stac/earthsearch/v1_search_s2_landsat_page.json", "landsat-c2-l2", "thumbnail", "s3", PAID_THERE),
    ("stac/usgs_landsatlook/item_lc09_alternate_s3.json", "", "blue", "s3", PAID),
    ("stac/usgs_landsatlook/item_lc09_alternate_s3.json", "", "blue", "https", NOTHING),
    ("stac/ext/storage_item_naip.json", "", "CO_GEOTIFF_RGB", "s3", PAID_THERE),
    ("stac/copernicus_cdse/search_s2l2a_2026.json", "", "product_metadata", "s3", NOTHING),
]


@pytest.mark.parametrize(("file", "collection", "key", "scheme", "expected"), RECORDED)
def test_storage_of_recorded_items(
    shared_data: Path, file: str, collection: str, key: str, scheme: str, expected: Storage
) -> None:
    document = json.loads((shared_data / file).read_text())
    items = document.get("features", [document])
    item = next(one for one in items if collection in ("", one.get("collection")))
    asset = item["assets"][key]
    hrefs = [
        asset["href"],
        *(one["href"] for one in asset.get("alternate", {}).values() if isinstance(one, dict)),
    ]
    href = next(one for one in hrefs if one.startswith(scheme))
    assert storage_at(item, asset, href) == expected
    assert expected == NOTHING or states_storage(item.get("properties")) or states_storage(asset)
