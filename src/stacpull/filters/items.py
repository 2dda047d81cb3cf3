"""A selection compiled into one cheap predicate over raw items.

Every filter is checked here, whatever a service was asked to filter. Predicates are compiled once and run
cheapest first; the first that objects gives the verdict. Judging costs a few microseconds an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stacpull.filters.flags import compile_flags
from stacpull.filters.ids import compile_ids
from stacpull.filters.interval import compile_datetime
from stacpull.filters.labels import compile_labels
from stacpull.filters.space import BboxCheck, compile_bbox
from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json, Selection

__all__ = ["ItemFilter", "compile_items"]


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """A compiled selection of items. Verdicts are counted by the caller; `notes` puts counts into words."""

    checks: tuple[Check, ...]
    nomenclature: str | None = None

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

    def notes(self, tallies: Mapping[Verdict, int]) -> list[str]:
        """Return what the user must be told after a walk, as plain sentences.

        Args:
            tallies: How many items got which verdict.
        """
        found = []
        if unreadable := tallies.get(Verdict.UNREADABLE_FLAG, 0):
            found.append(
                f"{_items(unreadable)} left out: cloud_and_shadow or seasonal_snow is not a flag there."
            )
        if unnamed := tallies.get(Verdict.NO_LABEL_IN_NOMENCLATURE, 0):
            found.append(f"{_items(unnamed)} left out: no label there exists in {self.nomenclature}.")
        found.extend(_bbox_note(check) for check in self.checks if isinstance(check, BboxCheck))
        return found


def compile_items(selection: Selection) -> ItemFilter:
    """Compile the item part of a selection. `max_items` and collections are the walk's, not the filter's.

    Raises:
        UsageError: The bbox, the datetime or an id cannot be read. Label names are `check_labels`'s.
    """
    checks = (
        compile_flags(selection),
        compile_ids(selection),
        compile_labels(selection),
        compile_datetime(selection),
        compile_bbox(selection.bbox),
    )
    return ItemFilter(tuple(check for check in checks if check is not None), selection.nomenclature)


def _bbox_note(check: BboxCheck) -> str:
    used = (
        f" ({_items(check.without_geometry)} had none: their bbox was used)" if check.without_geometry else ""
    )
    return f"bbox was compared with the geometry{used}."


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"
