"""Pure predicates over raw items and assets: labels, flags, place, time, ids, keys. No I/O."""

from __future__ import annotations

from stacpull.filters.assets import AssetFilter, compile_assets
from stacpull.filters.classes import check_labels, class_list
from stacpull.filters.interval import Interval, parse_interval
from stacpull.filters.items import ItemFilter, compile_items
from stacpull.filters.labels import item_labels
from stacpull.filters.space import parse_bbox
from stacpull.filters.verdict import Verdict

__all__ = [
    "AssetFilter",
    "Interval",
    "ItemFilter",
    "Verdict",
    "check_labels",
    "class_list",
    "compile_assets",
    "compile_items",
    "item_labels",
    "parse_bbox",
    "parse_interval",
]
