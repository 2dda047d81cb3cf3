"""A new filter is one class with the interface of `ItemCheck`.

It needs a module for the class, its row in `filters/item_filter.py`, a member of `Verdict`
(`filters/check.py`) and a field of `Selection` (`selection.py`): four files.
"""

from __future__ import annotations

from typing import Any, Self

import pytest

from stacpull.filters import item_filter as item_filters
from stacpull.filters.check import Counts, ItemCheck, left_out
from stacpull.filters.covering import covers
from stacpull.filters.item_filter import compile_items
from stacpull.models import Json
from stacpull.selection import Selection


class PlatformCheck(ItemCheck):
    """Keeps the items of one platform; `label_property` is used instead of a new field."""

    def __init__(self, platform: str) -> None:
        self._platform = platform

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        return None if selection.label_property is None else cls(selection.label_property)

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        return None if properties.get("platform") == self._platform else "where"

    def notes(self, counts: Counts, *, whole: bool) -> list[str]:
        return left_out(counts, "where", "of another platform.") if whole else []


def test_a_new_filter_is_compiled_applied_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_filters, "FILTERS", (*item_filters.FILTERS, PlatformCheck))
    found = compile_items(Selection(label_property="s2"))
    reasons = [found.judge({"id": "i", "properties": {"platform": name}}) for name in ("s2", "s1")]
    assert reasons == [None, "where"]
    assert found.notes({"where": 2}, whole=True) == ["2 items left out: of another platform."]
    assert found.notes({"where": 2}) == []
    assert not compile_items(Selection()).checks


def test_a_field_without_a_rule_must_be_equal() -> None:
    assert covers(Selection(), Selection(intersects='{"type":"Point","coordinates":[1,2]}'))
    assert not covers(Selection(seasonal_snow=True), Selection())
