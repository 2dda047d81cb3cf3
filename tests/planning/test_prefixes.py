"""Expanded prefixes: names, paths, and the item's document."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.asset_filter import AssetFilter
from stacpull.models import Failure, ItemId, Json, PlannedItem
from stacpull.planning.item_plan import AssetPlanner, ListedItem
from stacpull.planning.layout import Layout
from stacpull.planning.prefixes import ListedObject, Listing, object_asset
from stacpull.selection import Selection

DIRECTORY = {"href": "s3://b/tiles/39", "type": "inode/directory", "title": "tile", "roles": ["data"]}
ITEM: Json = {
    "id": "i",
    "collection": "c",
    "assets": {"data": DIRECTORY, "o": {"href": "https://h.test/o.tif"}},
}
LISTING = Listing((ListedObject("B02.jp2", 4), ListedObject("qi/x.gml", 0)))


def plan(
    listing: Listing | Failure, layout: str = "{collection}/{item}/{key}{ext}", item: Json = ITEM
) -> PlannedItem:
    planner = AssetPlanner(Layout.parse(layout), Selection(), AssetFilter(Selection()).keeps)
    return planner.plan(ListedItem(ItemId("c", "i"), item, None, listings={"data": listing}))


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("{collection}/{item}/{key}{ext}", "c/i/data/B02.jp2", "c/i/data/qi/x.gml"),
        ("x/{item}/{filename}", "x/i/39/B02.jp2", "x/i/39/qi/x.gml"),
        ("{item}-{key}", "i-data/B02.jp2", "i-data/qi/x.gml"),
    ],
)
def test_objects_are_below_the_path_of_their_asset(layout: str, first: str, second: str) -> None:
    assets = plan(LISTING, layout).assets[1:]
    assert [f"{asset.directory}/{asset.name}" for asset in assets] == [first, second]
    assert [(asset.key, asset.href, asset.size) for asset in assets] == [
        ("data/B02.jp2", "s3://b/tiles/39/B02.jp2", 4),
        ("data/qi/x.gml", "s3://b/tiles/39/qi/x.gml", 0),
    ]


def test_the_document_has_the_objects_instead_of_their_prefix() -> None:
    planned = plan(LISTING)
    assert planned.expanded_prefixes == ("data",)
    assets = planned.document["assets"]
    assert list(assets) == ["data/B02.jp2", "data/qi/x.gml", "o"]
    assert assets["data/B02.jp2"] == {
        "title": "tile",
        "roles": ["data"],
        "href": "s3://b/tiles/39/B02.jp2",
        "file:size": 4,
    }
    assert ITEM["assets"]["data"] is DIRECTORY  # the original is unchanged


def test_a_prefix_with_excluded_objects_is_kept() -> None:
    planned = plan(LISTING._replace(left_out=("qi/y.gml",)))
    assert planned.excluded == ("data/qi/y.gml",)
    assert list(planned.document["assets"]) == ["data", "data/B02.jp2", "data/qi/x.gml", "o"]


def test_an_object_read_again_is_found_by_its_prefix() -> None:
    assets = ITEM["assets"]
    assert object_asset(assets, "data/qi/x.gml") == {"href": "s3://b/tiles/39/qi/x.gml"}
    assert object_asset(assets, "o") == {"href": "https://h.test/o.tif"}
    assert object_asset(assets, "gone/x") is None
    assert object_asset({"data": None}, "data") is None


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("href", "found"),
    [
        pytest.param("", "s3://b/q/x", id="nothing is known"),
        pytest.param("s3://old/q/x", "s3://b/q/x", id="it moved"),
        pytest.param("s3://b/q/x", "s3://b/q/x", id="of the longer prefix"),
        pytest.param("s3://b/p/qi/x", "s3://b/p/qi/x", id="of the shorter prefix"),
    ],
)
def test_the_longest_of_nested_prefixes_locates_an_object(href: str, found: str, order: int) -> None:
    assets = {"data": {"href": "s3://b/p/"}, "data/qi": {"href": "s3://b/q"}}
    assert object_asset(dict([*assets.items()][::order]), "data/qi/x", href) == {"href": found}


NAMES = st.lists(st.text("aA./\\%:\u00e9e\u0301 ~", min_size=1, max_size=8), max_size=8, unique=True)


@given(NAMES)
def test_no_object_leaves_its_directory_or_collides(names: list[str]) -> None:
    planned = plan(Listing(tuple(ListedObject(name, 1) for name in names)))
    places = [f"{asset.directory}/{asset.name}" for asset in planned.assets[1:]]
    assert len(places) + len(planned.problems) == len(names)
    assert all(PurePosixPath(place).parts[:3] == ("c", "i", "data") for place in places)
    assert not any(part in {"", ".", ".."} for place in places for part in place.split("/"))
    assert len(set(places)) == len(places)
    assert not any(f"{above}" in places for place in places for above in PurePosixPath(place).parents)
