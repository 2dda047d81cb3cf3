"""Compiles the item filters of a selection into one predicate, and collects what they push down.

Every filter is applied here, even if it was pushed down. The first one that rejects an item gives the reason.
"""

from itertools import chain
from typing import NamedTuple, Self

import msgspec

from stacpull.boxes import Box
from stacpull.filters import item_filters
from stacpull.filters.cql2 import ExpressionFilter, combined
from stacpull.filters.item_filters import ItemFilter, LeftOut
from stacpull.filters.labels import LabelFilter
from stacpull.json_values import object_or_empty
from stacpull.models import Json
from stacpull.selection import Selection

FILTERS = (  # the cheapest first
    item_filters.IdsFilter,  # first: it records which ids were found, even if another filter rejects the item
    item_filters.ShardFilter,
    item_filters.BooleanFilter,
    item_filters.CloudCoverFilter,
    item_filters.WhereFilter,
    LabelFilter,
    item_filters.DatetimeFilter,
    ExpressionFilter,
    item_filters.BboxFilter,
    item_filters.AreaFilter,
)


class SelectionFilter(msgspec.Struct, frozen=True):
    filters: tuple[ItemFilter, ...]
    sample: int | None = None

    @classmethod
    def from_selection(cls, selection: Selection) -> Self:
        filters = [kind.from_selection(selection) for kind in FILTERS]
        return cls(tuple(filter(None, filters)), selection.sample)

    def reason_left_out(self, item: Json) -> str | None:
        """Return why the item is left out, or None if it matches. Never raises, even for an invalid item."""
        properties = object_or_empty(item.get("properties"))
        for item_filter in self.filters:
            reason = item_filter(item, properties)
            if reason is not None:
                return reason
        return None

    def left_out(self, counts: LeftOut, seen: int) -> dict[str, int]:
        """Return the counts, and how many of the `seen` items are in no sample."""
        matched = seen - sum(counts.values())
        if self.sample is None or matched <= self.sample:
            return dict(counts)
        return {**counts, "sample": matched - self.sample}

    def warnings(self, counts: LeftOut, *, complete: bool = False) -> list[str]:
        return list(chain.from_iterable([each.warnings(counts, complete=complete) for each in self.filters]))


class PushedDown(NamedTuple):
    """The part of a selection to push down: a service may return too many items, never too few."""

    bbox: Box | None = None  # W not above E; the bounding box of `area` if there is one
    area: Json | None = None
    datetime: str | None = None  # an instant or interval of RFC 3339, in UTC
    condition: Json | None = None  # CQL2 JSON of class `basic-cql2`
    ids: tuple[str, ...] = ()  # whole ids, or endings of ids
    order: Json | None = None  # `field` and `direction` of `--sortby` (STAC API, sort extension)


def push_down(selection: Selection) -> PushedDown:
    """Return the filters that can be pushed down, none with `--no-push-down`; and the order."""
    order = None
    if selection.sortby is not None:
        name = selection.sortby.removeprefix("-")
        field = name if name in {"id", "collection"} else f"properties.{name}"
        direction = "asc" if name == selection.sortby else "desc"
        order = {"field": field, "direction": direction}
    filters = SelectionFilter.from_selection(selection).filters if selection.push_down else ()
    conditions = []
    pushed: Json = {}
    for item_filter in filters:
        pushed |= item_filter.pushed_down()
        if condition := pushed.pop("condition", None):
            conditions.append(condition)
    return PushedDown(**pushed, condition=combined("and", conditions), order=order)
