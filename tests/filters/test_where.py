from __future__ import annotations

import pytest

from stacpull.errors import UsageError
from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

ITEM = {
    "id": "a",
    "collection": "c",
    "properties": {
        "platform": "sentinel-2a",
        "gsd": 10,
        "gain": 1.5,
        "path": "042",
        "proj:epsg": 32633,
        "online": True,
        "instruments": ["msi", 2],
        "proj": {"code": "EPSG:32633"},
        "a.b": "dotted",
        "nothing": None,
        "equation": "x=y",
        "huge": 10**400,
    },
}


def judge(*where, item=ITEM):
    return compile_items(Selection(where=where)).judge(item)


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        (["platform=sentinel-2a"], True),
        ([" platform = sentinel-2a "], True),
        (["platform=Sentinel-2A"], False),
        (["gsd=10"], True),
        (["gsd=10.0"], True),
        (["gsd=1e1"], True),
        (["gsd=11"], False),
        (["gain=1.50"], True),
        (["path=042"], True),
        (["path=42"], True),
        (["path=43"], False),
        (["proj:epsg=32633"], True),
        (["properties.proj:epsg=32633"], True),
        (["online=true"], True),
        (["online=True"], True),
        (["online=1"], False),
        (["online=false"], False),
        (["instruments=msi"], True),
        (["instruments=2"], True),
        (["instruments=oli"], False),
        (["proj.code=EPSG:32633"], True),
        (["a.b=dotted"], True),
        (["equation=x=y"], True),
        (["nothing=None"], False),
        (["nothing="], False),
        (["missing=x"], False),
        (["collection=c"], True),
        (["id=b"], False),
        (["proj=x"], False),
        (["huge=1"], False),
        (["gsd=nan"], False),
        (["gsd=20", "gsd=10"], True),
        (["gsd=10", "platform=sentinel-2a"], True),
        (["gsd=10", "platform=landsat-8"], False),
    ],
)
def test_every_property_must_have_one_of_its_values(where, matches):
    assert judge(*where) == (None if matches else "where")


@pytest.mark.parametrize("condition", ["gsd", "=10", "gsd==10", "gsd>=10", "gsd<=10", "gsd!=10", "gsd<>10"])
def test_invalid_conditions_are_rejected(condition):
    with pytest.raises(UsageError, match="is not property=value; use --filter for other comparisons"):
        compile_items(Selection(where=(condition,)))


def test_an_empty_condition_is_refused():
    with pytest.raises(UsageError, match="where must be"):
        Selection(where=("",))


def test_a_name_that_no_item_has_is_reported():
    selected = compile_items(Selection(where=("gds=10", "platform=x")))
    assert selected.judge(ITEM) == "where"
    notes = selected.notes({"where": 1})
    assert notes[0] == "--where contains 'gds', but no tested item has this property."


@pytest.mark.parametrize(
    ("cover", "reason"),
    [
        (0, None),
        (20, None),
        (20.0001, "cloud cover"),
        ("12.5", None),
        ("99", "cloud cover"),
        (None, "unknown cloud cover"),
        ("cloudy", "unknown cloud cover"),
        (True, "unknown cloud cover"),
        (float("nan"), "unknown cloud cover"),
        (10**400, "unknown cloud cover"),
        ([1], "unknown cloud cover"),
    ],
)
def test_cloud_cover(cover, reason):
    selected = compile_items(Selection(max_cloud_cover=20.0))
    assert selected.judge({"properties": {"eo:cloud_cover": cover}}) == reason


def test_items_without_a_cloud_cover_are_counted():
    selected = compile_items(Selection(max_cloud_cover=20.0))
    assert selected.judge({"properties": {}}) == "unknown cloud cover"
    assert selected.notes({"unknown cloud cover": 2}) == [
        "2 items left out: eo:cloud_cover is absent or not a number."
    ]


@pytest.mark.parametrize("most", [-1.0, 100.5, float("nan")])
def test_an_invalid_percentage_is_rejected(most):
    with pytest.raises(UsageError, match=r"max.cloud.cover"):
        compile_items(Selection(max_cloud_cover=most))


def test_an_unknown_expression_is_counted_and_its_name_reported():
    selected = compile_items(Selection(filter='platform = "sentinel-2a" OR gsd > 30'))
    assert selected.judge(ITEM) == "unknown to the filter"
    assert selected.notes({"unknown to the filter": 1}) == [
        "1 item left out: --filter cannot be evaluated, because a property is absent or of another type.",
        "--filter contains 'sentinel-2a', but no tested item has this property (text needs single quotes).",
    ]


def test_an_expression_matches_or_not():
    selected = compile_items(Selection(filter="gsd = 10 AND platform LIKE 'sentinel%'"))
    assert selected.judge(ITEM) is None
    assert selected.judge({"properties": {"gsd": 10, "platform": "landsat-8"}}) == "filter"
    assert selected.judge({}) == "unknown to the filter"
