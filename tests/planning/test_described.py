"""Filters on assets without type and roles whose collection describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stacpull.filters.asset_filter import AssetFilter
from stacpull.planning.item_plan import DescribedAssets
from stacpull.selection import Selection

ITEM_ASSETS = {"B02": {"type": "image/tiff; application=geotiff", "roles": ["data"]}, "odd": ["no object"]}
TABLE = [
    (Selection(roles=("data",)), "B02", {}, True),
    (Selection(roles=("data",)), "B02", {"roles": []}, True),
    (Selection(roles=("data",)), "B02", {"roles": ["overview"]}, False),
    (Selection(media_types=("image/tiff",)), "B02", {"roles": ["overview"]}, True),
    (Selection(media_types=("image/tiff",)), "B02", {"type": "image/jp2"}, False),
    (Selection(roles=("data",)), "B03", {}, False),
    (Selection(roles=("data",)), "odd", {}, False),
    (Selection(roles=("data",)), "B02", None, False),
    (Selection(assets=("B*",)), "B02", None, True),
]


@pytest.mark.parametrize(("selection", "key", "asset", "kept"), TABLE)
def test_the_assets_own_members_take_precedence(
    selection: Selection, key: str, asset: Any, kept: bool
) -> None:
    assert DescribedAssets(AssetFilter(selection), ITEM_ASSETS).keeps(key, asset) is kept


def test_recorded_item_assets_are_judged_by_their_roles(shared_data: Path) -> None:
    document = json.loads((shared_data / "stac/copernicus_cdse/collection_global_mosaics.json").read_text())
    judge = DescribedAssets(AssetFilter(Selection(roles=("reflectance",))), document["item_assets"])
    kept = {key for key in document["item_assets"] if judge.keeps(key, {"href": "s3://eodata/x"})}
    assert kept == {"B02", "B03", "B04", "B08"}
