"""Land-cover labels of an item: where they stand, how they compare, and the predicate over them.

Labels come from `properties.labels` (a list, or one string), else from `label:overviews` (names counted more
than zero times), or from the property that `--label-property` names. Case and outer space do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from stacpull.caches import cached_if_short
from stacpull.filters.bigearthnet import BEN19, TO_BEN19
from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json, Selection

__all__ = ["compile_labels", "fold", "item_labels"]


@cached_if_short(4096)
def fold(name: str) -> str:
    """Return the form in which two labels are compared."""
    return name.strip().casefold()


_FOLDED_TO_19: Final = {fold(old): fold(new) for old, new in TO_BEN19.items()} | {
    fold(name): fold(name) for name in BEN19
}


def item_labels(properties: dict[str, Any], label_property: str | None = None) -> list[str]:
    """Return the labels of an item as they are spelled there; empty if it has none.

    Args:
        properties: The item's `properties`.
        label_property: The one property to read instead of the usual places.
    """
    if label_property is not None:
        return _names(properties.get(label_property))
    labels = properties.get("labels")
    return _names(labels) if labels is not None else _counted(properties.get("label:overviews"))


def compile_labels(selection: Selection) -> Check | None:
    """Compile the label part of a selection; None if it asks nothing of labels."""
    wanted = frozenset(map(fold, selection.labels))
    excluded = frozenset(map(fold, selection.exclude_labels))
    nineteen = selection.nomenclature == "ben19"
    if not (wanted or excluded or nineteen):
        return None
    satisfied = _satisfied(wanted, need_all=selection.label_mode == "all")
    label_property = selection.label_property

    def check(_item: Json, properties: dict[str, Any]) -> Verdict | None:
        labels = {fold(label) for label in item_labels(properties, label_property)}
        if nineteen:
            labels = {_FOLDED_TO_19[label] for label in labels if label in _FOLDED_TO_19}
            if not labels:
                return Verdict.NO_LABEL_IN_NOMENCLATURE
        if not satisfied(labels):
            return Verdict.LABEL
        return None if labels.isdisjoint(excluded) else Verdict.EXCLUDED_LABEL

    return check


def _satisfied(wanted: frozenset[str], *, need_all: bool) -> Callable[[set[str]], bool]:
    """Return the test of an item's labels against those asked for; nothing asked is always satisfied."""
    if need_all or not wanted:
        return wanted.issubset
    return lambda labels: not wanted.isdisjoint(labels)


def _names(value: object) -> list[str]:
    """Return a property's labels: a list's members, or the one value itself; null members are none."""
    if isinstance(value, list):
        return [label if isinstance(label, str) else str(label) for label in value if label is not None]
    return [] if value is None else [str(value)]


def _counted(overviews: object) -> list[str]:
    """Return the class names with a count above zero in any `label:overviews` (STAC label extension 1.0)."""
    return [str(count["name"]) for count in _counts(overviews) if _is_positive(count.get("count"))]


def _counts(overviews: object) -> Iterable[dict[str, Any]]:
    for overview in overviews if isinstance(overviews, list) else ():
        counts = overview.get("counts") if isinstance(overview, dict) else None
        for count in counts if isinstance(counts, list) else ():
            if isinstance(count, dict) and count.get("name") is not None:
                yield count


def _is_positive(count: object) -> bool:
    return isinstance(count, int | float) and count > 0
