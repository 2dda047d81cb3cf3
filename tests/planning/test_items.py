import json
from pathlib import Path

import pytest

from stacpull.config.options import DEFAULT_LAYOUT
from stacpull.filters.asset_filter import AssetFilter
from stacpull.models import Asset, Checksum, FailureKind, ItemId, PlannedItem
from stacpull.planning.item_plan import (
    NO_COLLECTION,
    AssetPlanner,
    ListedItem,
    id_of,
    item_directory,
    item_json_in,
    with_template,
)
from stacpull.planning.layout import Layout
from stacpull.selection import Selection

PAGE = "https://h/v1/collections/c/items?limit=10"


def plan(item, *, layout=DEFAULT_LAYOUT, url=PAGE, parent=None, **options):
    selection = Selection(**options)
    planner = AssetPlanner(Layout.parse(layout), selection, AssetFilter(selection).keeps)
    return planner.plan(ListedItem(id_of(item, "c"), item, url, parent))


def test_a_complete_item_is_planned_with_all_its_statements() -> None:
    item = {
        "id": "i",
        "collection": "c",
        "properties": {"updated": "2020-01-01T00:00:00Z"},
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "links": [{"rel": "self", "href": "https://h/items/i"}],
        "assets": {
            "B01": {
                "href": "../b.tif",
                "type": "image/tiff",
                "file:size": 1160,
                "file:checksum": "d50110" + "00" * 16,
            },
            "B10": {"href": "https://o/x"},
        },
    }
    planned = plan(item, exclude_assets=("B10",), parent=ItemId("labels", "l"))
    assert planned.id == ItemId("c", "i")
    assert planned.document is item
    assert planned.href == "https://h/items/i"
    assert planned.parent == ItemId("labels", "l")
    assert planned.updated == "2020-01-01T00:00:00Z"
    assert (planned.problems, planned.excluded) == ((), ("B10",))
    assert planned.assets == (
        Asset(
            "B01", "https://h/b.tif", "c/i", "B01.tif", None, 1160, Checksum("md5", bytes(16)), "image/tiff"
        ),
    )


@pytest.mark.parametrize(("collection", "expected"), [("own", "own"), (None, "hint"), ("", "hint")])
def test_the_collection_of_an_item_is_stated_or_hinted(collection: str | None, expected: str) -> None:
    assert id_of({"id": "i", "collection": collection}, "hint") == ItemId(expected, "i")


@pytest.mark.parametrize(
    ("links", "url", "is_linked", "href", "asset"),
    [
        (
            [{"rel": "self", "href": "https://s/c/i"}],
            "https://r/c/i",
            True,
            "https://s/c/i",
            "https://s/c/a.tif",
        ),
        ([{"rel": "self", "href": "./i.json"}], "https://r/c/i", True, "https://r/c/i", "https://r/c/a.tif"),
        (None, "s3://b/c/i.json", True, "s3://b/c/i.json", "s3://b/c/a.tif"),
        (None, PAGE, False, "https://h/v1/collections/c/items/i", "https://h/v1/collections/c/a.tif"),
        ("odd", "https://h/page.json", False, None, "https://h/a.tif"),
        (None, None, False, None, None),
    ],
)
def test_the_items_own_url(links, url, is_linked, href, asset):
    item = {"id": "i", "links": links, "assets": {"a": {"href": "a.tif"}}}
    planned = plan(item, url=url, parent=ItemId("c", "label") if is_linked else None)
    assert planned.href == href
    assert [found.href for found in planned.assets] == ([] if asset is None else [asset])
    assert is_linked or plan({**item, "collection": NO_COLLECTION}, url=url).href is None  # not made up
    assert [key for key, _ in planned.problems] == (["a"] if asset is None else [])


@pytest.mark.parametrize(
    ("assets", "keys", "problems"),
    [
        (None, [], []),
        ({}, [], []),
        ([], [], [("assets", FailureKind.ITEM)]),
        ("x", [], [("assets", FailureKind.ITEM)]),
        (
            {"a": {"href": "https://o/a"}, "b": {"href": ["x"]}, "c": None, "d": {"href": "file:///x"}},
            ["a"],
            [("b", FailureKind.ITEM), ("c", FailureKind.ITEM), ("d", FailureKind.SCHEME)],
        ),
    ],
)
def test_assets_that_cannot_be_fetched_are_reported(assets, keys, problems):
    planned = plan({"id": "i", "assets": assets})
    assert [asset.key for asset in planned.assets] == keys
    assert [(key, failure.kind) for key, failure in planned.problems] == problems


@pytest.mark.parametrize(
    ("layout", "keys", "kept"),
    [
        ("{item}/data{ext}", ["b", "B", "a"], ["b"]),
        ("{item}{ext}", ["b", "a"], ["b"]),
        ("{item}/{key|removeprefix:x}", ["xa", "a"], ["xa"]),
        ("{item}/{filename}", ["b", "a"], ["b", "a"]),
        ("{item}/{key}/data{ext}", ["b", "a"], ["b", "a"]),
    ],
)
def test_all_but_the_first_of_assets_with_one_path_fail(layout, keys, kept):
    assets = {key: {"href": f"https://o/{number}.tif"} for number, key in enumerate(keys)}
    planned = plan({"id": "i", "collection": "c", "assets": assets}, layout=layout)
    assert [asset.key for asset in planned.assets] == kept
    assert [key for key, _ in planned.problems] == [key for key in keys if key not in kept]
    for _, failure in planned.problems:
        assert failure.kind is FailureKind.NAME
        assert "repeat `mirror` with {key} in --layout, then `retry`" in failure.message
        assert ", /" not in failure.message  # a path in DEST is relative
    assert all(repr(kept[0]) in failure.message for _, failure in planned.problems)


@pytest.mark.parametrize(
    ("item_id", "path"),
    [
        (ItemId("c", "S2A_0_45"), "c/S2A_0_45/S2A_0_45.json"),
        (ItemId("c", "URN:X/1"), "c/URN~3AX~2F1/URN~3AX~2F1.json"),
        (ItemId("c", "a.json"), "c/a.json/a.json.json"),
    ],
)
def test_the_path_of_the_items_document(item_id, path):
    assert item_json_in(item_directory(item_id), item_id.item) == path


def test_every_recorded_item_is_planned(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "stac").rglob("*.json")):
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
        features = document.get("features", [document]) if isinstance(document, dict) else []
        for item in (item for item in features if item.get("type") == "Feature"):
            planned = plan(item, url=f"https://h/{path.name}")
            paths = [f"{asset.directory}/{asset.name}" for asset in planned.assets]
            assert len(set(paths)) == len(paths)
            assert {failure.kind for _, failure in planned.problems} <= {FailureKind.SCHEME}
            found += 1
    assert found > 30


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
def test_the_assets_own_members_take_precedence(selection, key, asset, kept):
    assert AssetFilter(selection).keeps(key, with_template(asset, ITEM_ASSETS.get(key))) is kept


def plan_of(data: Path, file: str, *prefer: str) -> PlannedItem:
    document = json.loads((data / file).read_text())
    found = document.get("features", [document]) if isinstance(document, dict) else document
    return plan(found[0], url="https://api.test/v1/search", prefer=prefer)


def test_urls_with_spaces_quotes_and_values_are_alternates(shared_data: Path) -> None:
    plan = plan_of(shared_data, "stac/copernicus_cdse/search_global_mosaics.json", "https", "s3")
    band = next(asset for asset in plan.assets if asset.key == "B02")
    assert "', 'n/a', 'n/a', -1, '" in band.href
    assert band.href.endswith("/$value")
    assert [href.partition(":")[0] for href in band.alternates] == ["s3"]
    assert band.name == "B02.tif"
