from __future__ import annotations

import pytest

from stacpull.filters.item_filter import compile_items
from stacpull.filters.properties import read_flag
from stacpull.selection import Selection

TRUE = [True, "true", "True", "TRUE", "tRuE", 1, 1.0]
FALSE = [None, False, "false", "False", "FALSE", 0, 0.0]
UNREADABLE = ["", "yes", "no", "0", "1", " true", 2, -1, 0.5, float("nan"), [], [True], {}, {"a": 1}, "null"]


@pytest.mark.parametrize(
    ("value", "meaning"),
    [*((value, True) for value in TRUE), *((v, False) for v in FALSE), *((v, None) for v in UNREADABLE)],
)
def test_values_of_flags(value, meaning):
    assert read_flag(value) is meaning


@pytest.mark.parametrize(
    ("properties", "cloud", "snow", "reason"),
    [
        ({}, None, None, None),
        ({}, False, False, None),
        ({}, True, None, "cloud and shadow"),
        ({"cloud_and_shadow": "true"}, False, None, "cloud and shadow"),
        ({"cloud_and_shadow": "true"}, True, None, None),
        ({"cloud_and_shadow": "true"}, None, False, None),
        ({"seasonal_snow": 1}, None, False, "seasonal snow"),
        ({"seasonal_snow": 1}, None, True, None),
        ({"cloud_and_shadow": "maybe"}, False, None, "unreadable flag"),
        ({"cloud_and_shadow": "maybe"}, True, None, "unreadable flag"),
        ({"cloud_and_shadow": "maybe"}, None, None, None),
        ({"cloud_and_shadow": True, "seasonal_snow": "maybe"}, False, False, "unreadable flag"),
        ({"cloud_and_shadow": True, "seasonal_snow": True}, False, False, "cloud and shadow"),
    ],
)
def test_verdicts_by_flags(properties, cloud, snow, reason):
    selected = compile_items(Selection(cloud_and_shadow=cloud, seasonal_snow=snow))
    assert selected.judge({"id": "a", "properties": properties}) == reason


@pytest.mark.parametrize("item", [{"id": "a"}, {"properties": None}, {"properties": []}, {}])
def test_an_item_without_properties_has_neither_flag(item):
    assert compile_items(Selection(cloud_and_shadow=False)).judge(item) is None
    assert compile_items(Selection(cloud_and_shadow=True)).judge(item) == "cloud and shadow"
