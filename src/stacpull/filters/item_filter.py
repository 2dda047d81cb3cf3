"""Compiles the item filters of a selection into one predicate.

Every filter is applied here, even if it was pushed down to the service. The cheapest filters run first, and
the first one that rejects an item states the reason.
"""

from __future__ import annotations

import msgspec

from stacpull.filters.check import ItemCheck, LeftOut
from stacpull.filters.cql2 import ExpressionCheck
from stacpull.filters.ids import IdsCheck, ShardCheck
from stacpull.filters.interval import DatetimeCheck
from stacpull.filters.labels import LabelCheck
from stacpull.filters.places import AreaCheck, BboxCheck
from stacpull.filters.properties import CloudCoverCheck, FlagCheck, WhereCheck
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
    """A compiled selection of items. The caller counts the reasons and passes the counts to `notes`."""

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
        """True if one item can take a second."""
        return any(check.may_take_long for check in self.checks)

    def notes(self, counts: LeftOut, *, whole: bool = False) -> list[str]:
        """Return messages for the user after a walk.

        Args:
            counts: The items left out, by reason.
            whole: True if all items of the source were judged, from the start of the walk to its end.
        """
        return [note for check in self.checks for note in check.notes(counts, whole=whole)]


def compile_items(selection: Selection) -> ItemFilter:
    """Compile the item filters of a selection. The walk applies `max_items` and `collections`.

    Raises:
        UsageError: A filter is invalid. `check_labels` checks the names of labels.
    """
    checks = (kind.of(selection) for kind in FILTERS)
    return ItemFilter(tuple(check for check in checks if check is not None))
