from typing import Any

import pytest

from stacpull.filters.asset_filter import AssetFilter
from stacpull.selection import Selection

COG = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data", "reflectance"]}


@pytest.mark.parametrize(
    ("selection", "key", "asset", "kept"),
    [
        (Selection(), "B01", {}, True),
        (Selection(), "B01", None, True),
        (Selection(assets=("B0*",)), "B01", {}, True),
        (Selection(assets=("B0*",)), "B10", {}, False),
        (Selection(assets=("B01", "B8A")), "B8A", {}, True),
        (Selection(assets=("*",)), "a/b\nc", {}, True),
        (Selection(exclude_assets=("B10",)), "B10", {}, False),
        (Selection(assets=("B*",), exclude_assets=("B10",)), "B10", {}, False),
        (Selection(roles=("data",)), "x", COG, True),
        (Selection(roles=("thumbnail",)), "x", COG, False),
        (Selection(roles=("data",)), "x", {"roles": [["data"], {}]}, False),
        (Selection(roles=("data",)), "x", "not an object", False),
        (Selection(media_types=("image/tiff",)), "x", COG, True),
        (Selection(media_types=("IMAGE/TIFF; profile=cloud-optimized",)), "x", COG, True),
        (Selection(media_types=("image/*",)), "x", {"type": "Image/JPEG"}, True),
        (Selection(media_types=("image/*",)), "x", {"type": "text/html"}, False),
        (Selection(media_types=("image/*",), roles=("overview",)), "x", COG, False),
    ],
)
def test_assets_that_are_kept(selection, key, asset, kept):
    wanted = AssetFilter(selection)
    assert wanted.keeps(key, asset) is kept


@pytest.mark.parametrize(
    ("selection", "held", "kept"),
    [
        ({}, True, {"data/B02.jp2", "data/qi/x.gml"}),
        ({"assets": ("data",)}, True, {"data/B02.jp2", "data/qi/x.gml"}),
        ({"assets": ("*B02*",)}, True, {"data/B02.jp2"}),
        ({"assets": ("data/q?/*",)}, True, {"data/qi/x.gml"}),
        ({"assets": ("d*",), "exclude_assets": ("*.gml",)}, True, {"data/B02.jp2"}),
        ({"assets": ("other",)}, False, set()),
        ({"assets": ("B0*",)}, False, set()),
        ({"exclude_assets": ("data",)}, False, set()),
        ({"roles": ("data",)}, True, {"data/B02.jp2", "data/qi/x.gml"}),
        ({"roles": ("thumbnail",)}, False, set()),
        ({"media_types": ("inode/*",)}, True, {"data/B02.jp2", "data/qi/x.gml"}),
        ({"media_types": ("image/*",)}, False, set()),
    ],
)
def test_objects_below_a_prefix(selection: dict[str, Any], held: bool, kept: set[str]) -> None:
    assets = AssetFilter(Selection(**selection))
    assert assets.may_hold("data", {"type": "inode/directory", "roles": ["data"]}) is held
    names = ("data/B02.jp2", "data/qi/x.gml") if held else ()
    assert {name for name in names if assets.keeps_object("data", name)} == kept
