"""Decides field by field whether one selection is at least as wide as another.

Each filter compares its own fields (`ItemCheck.covers`, `AssetFilter.covers`). Of the others, a field that is
not in `_RULES` must be equal, or unset in the wide selection.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import attrs

from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.check import is_at_most, is_equal_or_unset, is_part
from stacpull.filters.item_filter import FILTERS
from stacpull.selection import Selection


def covers(wide: Selection, narrow: Selection) -> bool:
    """Return whether every filter of `wide` accepts all items that the same filter of `narrow` accepts."""
    filters = (*FILTERS, AssetFilter)
    compared = {name for one in filters for name in one.fields}
    others = (
        (_RULES.get(field.name, is_equal_or_unset), getattr(wide, field.name), getattr(narrow, field.name))
        for field in attrs.fields(Selection)
        if field.name not in compared
    )
    return (
        all(one.covers(wide, narrow) for one in filters)
        and all(rule(had, kept) for rule, had, kept in others)
        and (wide.all_collections or is_part(wide.collections, narrow.collections))
        and (wide.sample is None or wide.seed == narrow.seed)
        and narrow.followed <= wide.followed
    )


def _more_with(wide: bool, narrow: bool) -> bool:
    """Compare an option that adds items or assets."""
    return wide or not narrow


def _always(_wide: object, _narrow: object) -> bool:
    """Compare a field that changes how items are found, but not which, or that `covers` compares."""
    return True


_RULES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "collections": _always,
    "all_collections": _always,
    "prefer": _always,
    "include_pages": _more_with,
    "expand_prefix": _more_with,
    "collection_assets": _more_with,
    "source_links": _always,
    "follow": _always,
    "push_down": _always,
    "sortby": operator.eq,
    "max_items": is_at_most,
    "sample": is_at_most,
    "seed": _always,
}
"""Comparisons of the fields that are not of a filter."""
