"""Whether one selection is at least as wide as another, field by field. Pure.

A selection that is not known to be wider counts as a different one: a filter that can be written in several
ways (`filter`, `intersects`) must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from stacpull.filters.interval import Interval, parse_interval
from stacpull.selection import Selection


def covers(wide: Selection, narrow: Selection) -> bool:
    """Return True if one selection is at least as wide as another.

    Args:
        wide: The selection that may be wider.
        narrow: The selection that may be narrower.

    Returns:
        True if every filter of `wide` lets through what the same filter of `narrow` does.
    """
    names = (one.name for one in attrs.fields(Selection))
    return all(_CHECKS.get(name, _equal_or_unset(name))(wide, narrow) for name in names)


def _equal_or_unset(name: str) -> Callable[[Selection, Selection], bool]:
    def check(wide: Selection, narrow: Selection) -> bool:
        return getattr(wide, name) in (None, getattr(narrow, name))

    return check


def _any_of(name: str) -> Callable[[Selection, Selection], bool]:
    """Compare a filter whose values are alternatives; without a value it lets everything through."""

    def check(wide: Selection, narrow: Selection) -> bool:
        return _is_part(getattr(wide, name), getattr(narrow, name))

    return check


def _is_part(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def _excludes(name: str) -> Callable[[Selection, Selection], bool]:
    def check(wide: Selection, narrow: Selection) -> bool:
        return set(getattr(wide, name)) <= set(getattr(narrow, name))

    return check


def _at_most(name: str) -> Callable[[Selection, Selection], bool]:
    def check(wide: Selection, narrow: Selection) -> bool:
        limit, other = getattr(wide, name), getattr(narrow, name)
        return limit is None or (other is not None and other <= limit)

    return check


def _more_with(name: str) -> Callable[[Selection, Selection], bool]:
    """Compare a switch that adds something."""

    def check(wide: Selection, narrow: Selection) -> bool:
        return bool(getattr(wide, name)) or not getattr(narrow, name)

    return check


def _collections(wide: Selection, narrow: Selection) -> bool:
    return wide.all_collections or _is_part(wide.collections, narrow.collections)


def _labels(wide: Selection, narrow: Selection) -> bool:
    had, kept = _folded(wide.labels), _folded(narrow.labels)
    if not had or not kept:
        return not had
    needs_one = narrow.label_mode == "any" and len(kept) > 1
    if wide.label_mode == "all" and len(had) > 1:
        return not needs_one and had <= kept
    return kept <= had if needs_one else not kept.isdisjoint(had)


def _no_labels(wide: Selection, narrow: Selection) -> bool:
    return _folded(wide.exclude_labels) <= _folded(narrow.exclude_labels)


def _folded(labels: Sequence[str]) -> frozenset[str]:
    return frozenset(label.strip().casefold() for label in labels)


def _names_of_labels(wide: Selection, narrow: Selection) -> bool:
    """Compare what decides which labels an item has: without a filter on labels that does not matter."""
    names, others = ((one.label_property, one.nomenclature) for one in (wide, narrow))
    return names == others or not (wide.labels or wide.exclude_labels or wide.nomenclature)


def _bbox(wide: Selection, narrow: Selection) -> bool:
    if wide.bbox is None or wide.bbox == narrow.bbox:
        return True
    if narrow.bbox is None:
        return False
    (west, south, east, north), inner = _corners(wide.bbox), _corners(narrow.bbox)
    if west > east or inner[0] > inner[2]:  # across the antimeridian
        return False
    return west <= inner[0] and south <= inner[1] and inner[2] <= east and inner[3] <= north


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    half = len(bbox) // 2  # six numbers have heights
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _datetime(wide: Selection, narrow: Selection) -> bool:
    if wide.datetime is None or narrow.datetime is None:
        return wide.datetime is None
    return _spans(parse_interval(wide.datetime), parse_interval(narrow.datetime))


def _spans(wide: Interval, narrow: Interval) -> bool:
    from_start = wide.start is None or (narrow.start is not None and wide.start <= narrow.start)
    to_end = wide.end is None or (narrow.end is not None and narrow.end <= wide.end)
    return from_start and to_end


def _where(wide: Selection, narrow: Selection) -> bool:
    had, kept = _by_property(wide.where), _by_property(narrow.where)
    return all(name in kept and kept[name] <= values for name, values in had.items())


def _by_property(conditions: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for condition in conditions:
        name, _, value = condition.partition("=")
        found.setdefault(name.strip(), set()).add(value.strip())
    return found


def _sample(wide: Selection, narrow: Selection) -> bool:
    return _at_most("sample")(wide, narrow) and (wide.sample is None or wide.seed == narrow.seed)


def _followed(wide: Selection, narrow: Selection) -> bool:
    return narrow.followed <= wide.followed


def _whatever(_wide: Selection, _narrow: Selection) -> bool:
    """Compare a field that changes how items are found, not which."""
    return True


_CHECKS: Final[dict[str, Callable[[Selection, Selection], Any]]] = {
    "collections": _collections,
    "all_collections": _collections,
    "labels": _labels,
    "label_mode": _labels,
    "exclude_labels": _no_labels,
    "label_property": _names_of_labels,
    "nomenclature": _names_of_labels,
    "bbox": _bbox,
    "datetime": _datetime,
    "max_cloud_cover": _at_most("max_cloud_cover"),
    "where": _where,
    "ids": _any_of("ids"),
    "assets": _any_of("assets"),
    "exclude_assets": _excludes("exclude_assets"),
    "roles": _any_of("roles"),
    "media_types": _any_of("media_types"),
    "source_links": _followed,
    "follow": _followed,
    "push_down": _whatever,
    "split_walk": _whatever,
    "max_items": _at_most("max_items"),
    "sample": _sample,
    "seed": _sample,
    "prefer": _whatever,
    "include_pages": _more_with("include_pages"),
    "expand_prefix": _more_with("expand_prefix"),
    "collection_assets": _more_with("collection_assets"),
}
"""How fields are compared. One that is not listed must be equal, or unset in the wide selection."""
