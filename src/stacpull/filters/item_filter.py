"""Compiles the item filters of a selection into one predicate, and compares selections.

Every filter is applied here, even if it was pushed down to the service. The first that rejects is the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import attrs
import msgspec

from stacpull.boxes import flat
from stacpull.filters.check import ItemCheck, LeftOut
from stacpull.filters.cql2 import ExpressionCheck
from stacpull.filters.interval import DatetimeCheck, parse_interval
from stacpull.filters.labels import LabelCheck
from stacpull.filters.places import AreaCheck, BboxCheck
from stacpull.filters.properties import CloudCoverCheck, FlagCheck, IdsCheck, ShardCheck, WhereCheck
from stacpull.json_values import object_or_empty
from stacpull.models import Json
from stacpull.selection import Selection

FILTERS = (
    IdsCheck,  # first: it records which ids were found, even if another filter rejects the item
    ShardCheck,
    FlagCheck,
    CloudCoverCheck,
    WhereCheck,
    LabelCheck,
    DatetimeCheck,
    ExpressionCheck,
    BboxCheck,
    AreaCheck,
)
"""All filters on items, the cheapest first."""


class ItemFilter(msgspec.Struct, frozen=True):
    checks: tuple[ItemCheck, ...]

    def judge(self, item: Json) -> str | None:
        """Return why the item is left out, or None if it matches. Never raises, even for an invalid item."""
        properties = object_or_empty(item.get("properties"))
        for check in self.checks:
            reason = check(item, properties)
            if reason is not None:
                return reason
        return None

    @property
    def may_take_long(self) -> bool:
        return any(check.may_take_long for check in self.checks)

    def notes(self, counts: LeftOut, *, whole: bool = False) -> list[str]:
        """Return messages after a walk that left out `counts`. `whole`: it judged all items."""
        return [note for check in self.checks for note in check.notes(counts, whole=whole)]


def compile_items(selection: Selection) -> ItemFilter:
    checks = (kind.of(selection) for kind in FILTERS)
    return ItemFilter(tuple(check for check in checks if check is not None))


def covers(wide: Selection, narrow: Selection) -> bool:
    """Return whether it is certain that `wide` accepts all items and assets that `narrow` accepts.

    A run then gives up the open assets of an earlier one. A field without a rule must be equal, or unset in
    `wide`.
    """
    return (
        all(
            _RULES.get(field.name, _is_equal_or_unset)(getattr(wide, field.name), getattr(narrow, field.name))
            for field in attrs.fields(Selection)
        )
        and (wide.all_collections or _is_part(wide.collections, narrow.collections))
        and (wide.label_mode == "any" or wide.labels in ((), narrow.labels))
        and (wide.sample is None or wide.seed == narrow.seed)
        and narrow.followed <= wide.followed
    )


def _is_equal_or_unset(wide: object, narrow: object) -> bool:
    return wide in (None, (), narrow)


def _is_part(wide: Collection[str], narrow: Collection[str]) -> bool:
    """Compare values that are alternatives. Without values, everything is kept."""
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def _excludes_less(wide: Collection[str], narrow: Collection[str]) -> bool:
    return set(wide) <= set(narrow)


def _is_at_most(wide: float | None, narrow: float | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)


def _is_within(wide: str | None, narrow: str | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    outer, inner = parse_interval(wide), parse_interval(narrow)
    from_start = outer.start is None or (inner.start is not None and outer.start <= inner.start)
    return from_start and (outer.end is None or (inner.end is not None and inner.end <= outer.end))


def _contains(wide: Sequence[float] | None, narrow: Sequence[float] | None) -> bool:
    """Compare boxes. One across the antimeridian only contains itself."""
    if wide is None or narrow is None or wide == narrow:
        return wide in (None, narrow)
    outer, inner = flat(wide), flat(narrow)
    return (
        outer.west <= inner.west <= inner.east <= outer.east
        and outer.south <= inner.south
        and inner.north <= outer.north
    )


def _adds(wide: bool, narrow: bool) -> bool:
    return wide or not narrow


def _always(_wide: object, _narrow: object) -> bool:
    return True


_RULES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    # fields that change how items are found but not which, or that `covers` compares
    **dict.fromkeys(
        ("collections", "all_collections", "prefer", "source_links", "follow", "push_down", "seed"), _always
    ),
    **dict.fromkeys(("ids", "labels", "assets", "roles", "media_types"), _is_part),
    **dict.fromkeys(("exclude_assets", "exclude_labels"), _excludes_less),
    **dict.fromkeys(("max_items", "sample", "max_cloud_cover"), _is_at_most),
    "datetime": _is_within,
    "bbox": _contains,
    **dict.fromkeys(("include_pages", "expand_prefix", "collection_assets"), _adds),
    **dict.fromkeys(("sortby", "label_property", "nomenclature"), operator.eq),
}
