"""Prefixes taken apart: names, places, and the item's document."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.assets import compile_assets
from stacpull.models import Failure, FailureKind, Json, Selection
from stacpull.planning.items import Planned, plan_item
from stacpull.planning.layout import Layout
from stacpull.planning.names import fold
from stacpull.planning.prefixes import Listed, Listing, as_prefix, object_of

DIRECTORY = {"href": "s3://b/tiles/39", "type": "inode/directory", "title": "tile", "roles": ["data"]}
ITEM: Json = {
    "id": "i",
    "collection": "c",
    "assets": {"data": DIRECTORY, "o": {"href": "https://h.test/o.tif"}},
}
LISTING = Listing((Listed("B02.jp2", 4), Listed("qi/x.gml", 0)))


def plan(
    listing: Listing | Failure, layout: str = "{collection}/{item}/{key}{ext}", item: Json = ITEM
) -> Planned:
    planned = plan_item(
        item,
        collection_hint=None,
        item_href=None,
        page_url=None,
        layout=Layout.parse(layout),
        asset_filter=compile_assets(Selection()),
        listings={"data": listing},
    )
    assert isinstance(planned, Planned)
    return planned


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("{collection}/{item}/{key}{ext}", "c/i/data/B02.jp2", "c/i/data/qi/x.gml"),
        ("x/{item}/{filename}", "x/i/39/B02.jp2", "x/i/39/qi/x.gml"),
        ("{item}-{key}", "i-data/B02.jp2", "i-data/qi/x.gml"),
    ],
)
def test_objects_go_under_the_place_of_their_asset(layout: str, first: str, second: str) -> None:
    assets = plan(LISTING, layout).item.assets[:2]
    assert [f"{asset.directory}/{asset.name}" for asset in assets] == [first, second]
    assert [(asset.key, asset.href, asset.size) for asset in assets] == [
        ("data/B02.jp2", "s3://b/tiles/39/B02.jp2", 4),
        ("data/qi/x.gml", "s3://b/tiles/39/qi/x.gml", 0),
    ]


def test_the_document_has_the_objects_in_place_of_their_prefix() -> None:
    planned = plan(LISTING)
    assert planned.item.spread == ("data",)
    assets = planned.item.document["assets"]
    assert list(assets) == ["data/B02.jp2", "data/qi/x.gml", "o"]
    assert assets["data/B02.jp2"] == {
        "title": "tile",
        "roles": ["data"],
        "href": "s3://b/tiles/39/B02.jp2",
        "file:size": 4,
    }
    assert ITEM["assets"]["data"] is DIRECTORY  # what was read is left as it is


def test_what_is_left_out_of_a_prefix_is_counted_and_the_prefix_still_told() -> None:
    planned = plan(LISTING._replace(left_out=("qi/y.gml",)))
    assert planned.excluded == ("data/qi/y.gml",)
    assert list(planned.item.document["assets"]) == ["data", "data/B02.jp2", "data/qi/x.gml", "o"]


def test_a_prefix_that_could_not_be_listed_is_named() -> None:
    failure = Failure(FailureKind.PREFIX, "Nothing is there.")
    planned = plan(failure)
    assert [(problem.key, problem.failure) for problem in planned.problems] == [("data", failure)]
    assert planned.item.document is ITEM


def test_an_object_read_again_is_found_by_the_prefix_that_it_is_of() -> None:
    assets = ITEM["assets"]
    assert object_of(assets, "data/qi/x.gml") == {"href": "s3://b/tiles/39/qi/x.gml"}
    assert object_of(assets, "o") == {"href": "https://h.test/o.tif"}
    assert object_of(assets, "gone/x") is None
    assert object_of({"data": None}, "data") is None


@pytest.mark.parametrize(("href", "prefix"), [("s3://b/a", "s3://b/a/"), ("s3://b/a/", "s3://b/a/")])
def test_a_prefix_ends_with_a_slash(href: str, prefix: str) -> None:
    assert as_prefix(href) == prefix


NAMES = st.lists(st.text("aA./\\%:\u00e9e\u0301 ~", min_size=1, max_size=8), max_size=8, unique=True)


@given(NAMES)
def test_no_object_goes_out_of_its_place_or_meets_another(names: list[str]) -> None:
    planned = plan(Listing(tuple(Listed(name, 1) for name in names)))
    places = [f"{asset.directory}/{asset.name}" for asset in planned.item.assets[:-1]]
    assert len(places) + len(planned.problems) == len(names)
    assert all(PurePosixPath(place).parts[:3] == ("c", "i", "data") for place in places)
    assert not any(part in {"", ".", ".."} for place in places for part in place.split("/"))
    folded = {fold(place) for place in places}
    assert len(folded) == len(places)
    assert not any(fold(f"{above}") in folded for place in places for above in PurePosixPath(place).parents)
