"""Decides field by field whether one selection is at least as wide as another.

If the comparison is not certain, the answer is no: filters that can be written in different ways (`filter`,
`intersects`) must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from stacpull.boxes import flat
from stacpull.filters.interval import Interval, parse_interval
from stacpull.selection import Selection


def covers(wide: Selection, narrow: Selection) -> bool:
    """Return whether one selection is at least as wide as another.

    Args:
        wide: The selection that may be wider.
        narrow: The selection that may be narrower.

    Returns:
        True if every filter of `wide` accepts all items that the same filter of `narrow` accepts.
    """
    return all(_is_covered(one.name, wide, narrow) for one in attrs.fields(Selection))


def _is_covered(name: str, wide: Selection, narrow: Selection) -> bool:
    if name in _WHOLE:
        return _WHOLE[name](wide, narrow)
    return _CHECKS.get(name, _equal_or_unset)(getattr(wide, name), getattr(narrow, name))


def _equal_or_unset(wide: object, narrow: object) -> bool:
    return wide in (None, (), narrow)


def _is_part(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    """Compare a filter whose values are alternatives. Without values it accepts everything."""
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def _excludes(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return set(wide) <= set(narrow)


def _at_most(wide: float | None, narrow: float | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)


def _more_with(wide: bool, narrow: bool) -> bool:
    """Compare an option that adds items or assets."""
    return wide or not narrow


def _always(_wide: object, _narrow: object) -> bool:
    """Compare a field that changes how items are found, but not which."""
    return True


def _collections(wide: Selection, narrow: Selection) -> bool:
    return wide.all_collections or _is_part(wide.collections, narrow.collections)


def _labels(wide: Selection, narrow: Selection) -> bool:
    had, kept = _folded(wide.labels), _folded(narrow.labels)
    if not had or not kept:
        return not had
    needs_one = narrow.label_mode == "any" and len(kept) > 1
    if wide.label_mode == "all":
        return not needs_one and had <= kept
    return kept <= had if needs_one else not kept.isdisjoint(had)


def _no_labels(wide: Selection, narrow: Selection) -> bool:
    return _folded(wide.exclude_labels) <= _folded(narrow.exclude_labels)


def _folded(labels: Sequence[str]) -> frozenset[str]:
    return frozenset(label.strip().casefold() for label in labels)


def _names_of_labels(wide: Selection, narrow: Selection) -> bool:
    """Compare the fields that determine an item's labels. They only matter with a filter on labels."""
    names, others = ((one.label_property, one.nomenclature) for one in (wide, narrow))
    return names == others or not (wide.labels or wide.exclude_labels or wide.nomenclature)


def _bbox(wide: Selection, narrow: Selection) -> bool:
    if wide.bbox is None or wide.bbox == narrow.bbox:
        return True
    if narrow.bbox is None:
        return False
    (west, south, east, north), inner = flat(wide.bbox), flat(narrow.bbox)
    if inner.west > inner.east:  # across the antimeridian
        return False
    return west <= inner.west and south <= inner.south and inner.east <= east and inner.north <= north


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
    return _at_most(wide.sample, narrow.sample) and (wide.sample is None or wide.seed == narrow.seed)


def _followed(wide: Selection, narrow: Selection) -> bool:
    return narrow.followed <= wide.followed


_CHECKS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "max_cloud_cover": _at_most,
    "ids": _is_part,
    "assets": _is_part,
    "exclude_assets": _excludes,
    "roles": _is_part,
    "media_types": _is_part,
    "push_down": _always,
    "split_walk": _always,
    "max_items": _at_most,
    "prefer": _always,
    "include_pages": _more_with,
    "expand_prefix": _more_with,
    "collection_assets": _more_with,
}
"""Comparisons of a single field. A field in neither table must be equal, or unset in the wide selection."""

_WHOLE: Final[dict[str, Callable[[Selection, Selection], bool]]] = {
    "collections": _collections,
    "all_collections": _collections,
    "labels": _labels,
    "label_mode": _labels,
    "exclude_labels": _no_labels,
    "label_property": _names_of_labels,
    "nomenclature": _names_of_labels,
    "bbox": _bbox,
    "datetime": _datetime,
    "where": _where,
    "source_links": _followed,
    "follow": _followed,
    "sample": _sample,
    "seed": _sample,
}
"""Comparisons of fields that depend on other fields or must be parsed."""
