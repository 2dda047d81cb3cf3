"""A selection compiled into one cheap predicate over raw items.

Every filter is checked here, whatever a service was asked to filter. Filters are compiled once and run
cheapest first; the first that objects gives the verdict.
"""

from __future__ import annotations

import msgspec

from stacpull.errors import UsageError
from stacpull.filters.check import Counts, ItemCheck, Verdict
from stacpull.filters.cql2 import ExpressionCheck
from stacpull.filters.ids import IdsCheck, ShardCheck
from stacpull.filters.interval import DatetimeCheck
from stacpull.filters.labels import LabelCheck
from stacpull.filters.places import AreaCheck, BboxCheck
from stacpull.filters.properties import CloudCoverCheck, FlagCheck, WhereCheck
from stacpull.models import Json
from stacpull.selection import Selection

FILTERS = (
    IdsCheck,  # first: it remembers which ids were found, whatever else is asked
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
"""All filters on items, the cheapest first. `of` compiles one for a selection, or returns None."""


class ItemFilter(msgspec.Struct, frozen=True):
    """A compiled selection of items. The caller counts verdicts; `notes` puts the counts into words."""

    checks: tuple[ItemCheck, ...]

    def judge(self, item: Json) -> Verdict:
        """Return MATCH, or why the item is left out. Never raises on an odd item."""
        properties = item.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        for check in self.checks:
            verdict = check(item, properties)
            if verdict is not None:
                return verdict
        return Verdict.MATCH

    @property
    def may_take_long(self) -> bool:
        """True if a single item can take a second."""
        return any(check.may_take_long for check in self.checks)

    def notes(self, counts: Counts, *, whole: bool = False) -> list[str]:
        """Return what the user must know after a walk, as plain sentences.

        Args:
            counts: How many items got which verdict.
            whole: True if all items of the source were judged, from the start of the walk to its end.
        """
        return [note for check in self.checks for note in check.notes(counts, whole=whole)]


def compile_items(selection: Selection) -> ItemFilter:
    """Compile the filters on items of a selection; `max_items` and collections belong to the walk.

    Raises:
        UsageError: A condition cannot be read. Label names are checked by `check_labels`.
    """
    if selection.sample is not None and selection.max_items is not None:
        raise UsageError("A selection has either a sample or max_items: leave one of them out.")
    checks = (one.of(selection) for one in FILTERS)
    return ItemFilter(tuple(check for check in checks if check is not None))
