"""Pure planning: which assets an item brings, where each goes, and under which safe name. No I/O."""

from __future__ import annotations

from stacpull.planning.hrefs import source_links
from stacpull.planning.items import (
    NO_COLLECTION,
    AssetProblem,
    KeepsAssets,
    Planned,
    Problem,
    item_directory,
    item_document_path,
    plan_item,
)
from stacpull.planning.layout import ItemLayout, Layout, Place, complete
from stacpull.planning.names import fold, kept_apart, path_hash, safe_segment

__all__ = [
    "NO_COLLECTION",
    "AssetProblem",
    "ItemLayout",
    "KeepsAssets",
    "Layout",
    "Place",
    "Planned",
    "Problem",
    "complete",
    "fold",
    "item_directory",
    "item_document_path",
    "kept_apart",
    "path_hash",
    "plan_item",
    "safe_segment",
    "source_links",
]
