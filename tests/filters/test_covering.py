"""Comparison of selections: at least as wide, or not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from stacpull.filters.item_filter import _RULES, covers
from stacpull.selection import Selection

WIDER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"exclude_assets": "B10"}),
    ({}, {"labels": ["Rice"], "bbox": (0, 0, 1, 1), "datetime": "2020", "where": ["a=1"]}),
    ({"assets": ["B02", "B03"]}, {"assets": ["B02"]}),
    ({"exclude_assets": "B10"}, {"exclude_assets": ["B10", "B09"]}),
    ({}, {"exclude_labels": ["Rice"]}),
    ({"max_items": 10}, {"max_items": 3}),
    ({}, {"sample": 3}),
    ({"sample": 5, "seed": 2}, {"sample": 3, "seed": 2}),
    ({"clip": (0, 0, 1, 1)}, {"clip": "0,0,1,1", "assets": ["B02"]}),
    ({"all_collections": True}, {"collections": ["c"]}),
    ({"collections": ["c", "d"]}, {"collections": ["c"]}),
    ({"max_cloud_cover": 20}, {"max_cloud_cover": 10}),
    ({}, {"shard": (1, 2)}),
    ({}, {"source_links": False}),
    ({"follow": ["related"]}, {}),
    ({"include_pages": True}, {"exclude_assets": "B10"}),
    ({"filter": "a = 1"}, {"filter": "a = 1", "ids": ["x"]}),
    ({"cloud_and_shadow": False}, {"cloud_and_shadow": False, "seasonal_snow": False}),
]
APART: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"labels": ["Rice"]}, {"labels": ["Wheat"]}),
    ({"labels": ["Rice"]}, {"labels": ["Rice"], "nomenclature": "ben19"}),
    ({"collections": ["c"]}, {"collections": ["d"]}),
    ({"collections": ["c"]}, {"all_collections": True}),
    ({"exclude_labels": ["Rice"]}, {"exclude_labels": ["Rice"], "nomenclature": "ben19"}),
    ({"bbox": (0, 0, 10, 10)}, {"bbox": (1, 1, 11, 9)}),
    ({"bbox": (0, 0, 10, 10)}, {}),
    ({"clip": (0, 0, 10, 10)}, {}),
    ({"datetime": "2020"}, {"datetime": "2020-01-01/2020-01-02"}),
    ({"sample": 5, "seed": 1}, {"sample": 3, "seed": 2}),
    ({"shard": (1, 2)}, {"shard": (2, 2)}),
    ({"where": ["a=1"]}, {"where": ["b=1"]}),
    ({"filter": "a = 1"}, {"filter": "a = 2"}),
    ({"cloud_and_shadow": False}, {"cloud_and_shadow": True}),
]


@pytest.mark.parametrize(("wide", "narrow"), WIDER)
def test_a_narrower_selection_is_covered(wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    assert covers(Selection(**wide), Selection(**narrow))
    assert not covers(Selection(**narrow), Selection(**wide))


@pytest.mark.parametrize(("one", "other"), APART)
def test_a_different_selection_is_not_covered(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert not covers(Selection(**one), Selection(**other))


@pytest.mark.parametrize("fields", [fields for pair in WIDER + APART for fields in pair])
def test_equal_selections_cover_each_other(fields: dict[str, Any]) -> None:
    assert covers(Selection(**fields), Selection(**fields))


def test_every_field_is_compared_and_one_without_a_rule_must_be_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _RULES.keys() < {field.name for field in attrs.fields(Selection)}
    monkeypatch.delitem(_RULES, "max_items")
    assert covers(Selection(max_items=3), Selection(max_items=3))
    assert covers(Selection(), Selection(max_items=3))
    assert not covers(Selection(max_items=10), Selection(max_items=3))
