"""A selection compiled into one cheap predicate over raw items.

Every filter is checked here, whatever a service was asked to filter. Predicates are compiled once and run
cheapest first; the first that objects gives the verdict. Judging costs a few microseconds an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from stacpull.errors import UsageError
from stacpull.filters.area import AreaCheck, compile_area
from stacpull.filters.cloud_cover import compile_cloud_cover
from stacpull.filters.draw import compile_shard
from stacpull.filters.expression import ExpressionCheck, compile_filter
from stacpull.filters.flags import compile_flags
from stacpull.filters.ids import IdsCheck, compile_ids
from stacpull.filters.interval import compile_datetime
from stacpull.filters.labels import compile_labels
from stacpull.filters.properties import Reference
from stacpull.filters.space import BboxCheck, compile_bbox
from stacpull.filters.verdict import Check, Verdict
from stacpull.filters.where import WhereCheck, compile_where
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

    @property
    def may_take_long(self) -> bool:
        """True if geometries are compared, of which a single one can take a second."""
        return any(isinstance(check, AreaCheck | ExpressionCheck) for check in self.checks)

    def notes(self, tallies: Mapping[Verdict, int], *, whole: bool = False) -> list[str]:
        """Return what the user must be told after a walk, as plain sentences.

        Args:
            tallies: How many items got which verdict.
            whole: True if all items of the walk were judged here, from its start to its end.
        """
        found = [
            f"{_items(count)} left out: {why.format(nomenclature=self.nomenclature)}"
            for verdict, why in _REASONS.items()
            if (count := tallies.get(verdict, 0))
        ]
        for check in self.checks:
            if isinstance(check, BboxCheck):
                found += check.places.notes()
            elif isinstance(check, IdsCheck) and whole:
                found += check.notes()
            elif isinstance(check, AreaCheck):
                found += _area_notes(check)
            elif isinstance(check, WhereCheck) and tallies.get(Verdict.WHERE):
                found += _unknown_names("--where", check.references)
            elif isinstance(check, ExpressionCheck):
                found += check.places.notes()
                if tallies.get(Verdict.UNKNOWN_FILTER):
                    found += _unknown_names("--filter", check.references)
        return found


def compile_items(selection: Selection) -> ItemFilter:
    """Compile the item part of a selection. `max_items` and collections are the walk's, not the filter's.

    Raises:
        UsageError: A condition cannot be read. Label names are `check_labels`'s.
    """
    if selection.sample is not None and selection.max_items is not None:
        raise UsageError("A selection has either a sample or max_items: leave one of them out.")
    checks = (
        compile_ids(selection),  # first: it remembers which ones were met, whatever else is asked
        compile_shard(selection.shard),
        compile_flags(selection),
        compile_cloud_cover(selection.max_cloud_cover),
        compile_where(selection.where),
        compile_labels(selection),
        compile_datetime(selection),
        compile_filter(selection.filter),
        compile_bbox(selection.bbox),
        compile_area(selection.intersects),
    )
    return ItemFilter(tuple(check for check in checks if check is not None), selection.nomenclature)


_REASONS: Final = {
    Verdict.UNREADABLE_FLAG: "cloud_and_shadow or seasonal_snow is not a flag there.",
    Verdict.NO_LABEL_IN_NOMENCLATURE: "no label there exists in {nomenclature}.",
    Verdict.UNKNOWN_CLOUD_COVER: "eo:cloud_cover is absent there, or no number.",
    Verdict.UNKNOWN_FILTER: "--filter cannot be judged there, a property is absent or of another kind.",
}
"""What must be told of items that are left out for what they lack, not for what they are."""


def _area_notes(check: AreaCheck) -> list[str]:
    mended = ["The area of --intersects crosses itself: it was made valid."] if check.mended else []
    return mended + check.places.notes()


def _unknown_names(option: str, references: Iterable[Reference]) -> list[str]:
    """Tell of names that no item had: most likely misspelt, or text in the wrong quotes."""
    hint = " (text goes into single quotes)" if option == "--filter" else ""
    names = dict.fromkeys(one.name for one in references if not one.found)
    return [f"{option} names {name!r}, which none of the items it judged has{hint}." for name in names]


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"
