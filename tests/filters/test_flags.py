from __future__ import annotations

import pytest

from stacpull.filters.check import Verdict
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
    ("properties", "cloud", "snow", "verdict"),
    [
        ({}, None, None, Verdict.MATCH),
        ({}, False, False, Verdict.MATCH),
        ({}, True, None, Verdict.CLOUD),
        ({"cloud_and_shadow": "true"}, False, None, Verdict.CLOUD),
        ({"cloud_and_shadow": "true"}, True, None, Verdict.MATCH),
        ({"cloud_and_shadow": "true"}, None, False, Verdict.MATCH),
        ({"seasonal_snow": 1}, None, False, Verdict.SNOW),
        ({"seasonal_snow": 1}, None, True, Verdict.MATCH),
        ({"cloud_and_shadow": "maybe"}, False, None, Verdict.UNREADABLE_FLAG),
        ({"cloud_and_shadow": "maybe"}, True, None, Verdict.UNREADABLE_FLAG),
        ({"cloud_and_shadow": "maybe"}, None, None, Verdict.MATCH),
        ({"cloud_and_shadow": True, "seasonal_snow": "maybe"}, False, False, Verdict.UNREADABLE_FLAG),
        ({"cloud_and_shadow": True, "seasonal_snow": True}, False, False, Verdict.CLOUD),
    ],
)
def test_verdicts_by_flags(properties, cloud, snow, verdict):
    selected = compile_items(Selection(cloud_and_shadow=cloud, seasonal_snow=snow))
    assert selected.judge({"id": "a", "properties": properties}) is verdict


@pytest.mark.parametrize("item", [{"id": "a"}, {"properties": None}, {"properties": []}, {}])
def test_an_item_without_properties_has_neither_flag(item):
    assert compile_items(Selection(cloud_and_shadow=False)).judge(item) is Verdict.MATCH
    assert compile_items(Selection(cloud_and_shadow=True)).judge(item) is Verdict.CLOUD
