"""What a filter says about an item: it matches, or the one reason why it does not."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from stacpull.models import Json

__all__ = ["Check", "Verdict"]


class Verdict(enum.StrEnum):
    """Why an item is kept or left out; callers count them (`Counter[Verdict]`)."""

    MATCH = "match"
    LABEL = "label"
    EXCLUDED_LABEL = "excluded label"
    NO_LABEL_IN_NOMENCLATURE = "no label in nomenclature"
    CLOUD = "cloud and shadow"
    SNOW = "seasonal snow"
    UNREADABLE_FLAG = "unreadable flag"
    BBOX = "bbox"
    INTERSECTS = "intersects"
    CLOUD_COVER = "cloud cover"
    UNKNOWN_CLOUD_COVER = "unknown cloud cover"
    WHERE = "where"
    FILTER = "filter"
    UNKNOWN_FILTER = "unknown to the filter"
    SHARD = "shard"
    DATETIME = "datetime"
    IDS = "ids"


Check = Callable[[Json, dict[str, Any]], Verdict | None]
"""One compiled predicate over (item, its properties): None where it has nothing against the item."""
