"""The decision of a filter on an item (`Verdict`), and the interface of filters (`ItemCheck`)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from stacpull.models import Json
from stacpull.plurals import count
from stacpull.selection import Selection


class Verdict(enum.StrEnum):
    """Why an item is kept or left out."""

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


Counts = Mapping[Verdict, int]
"""The number of items with each verdict."""


class ItemCheck:
    """One compiled filter on items.

    Attributes:
        field: The field of a selection from which it is compiled.
        may_take_long: True if one item can take a second.
    """

    field: ClassVar[str]
    may_take_long = False

    def __init__(self, value: Any) -> None:
        """Compile the value of the field.

        Raises:
            UsageError: It is invalid.
        """

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        """Compile the filter of a selection, or return None if it is not set."""
        value = getattr(selection, cls.field)
        return None if value in (None, ()) else cls(value)

    def __call__(self, item: Json, properties: dict[str, Any]) -> Verdict | None:
        """Return why the item is left out, or None if it is kept. Never raises, even for an invalid item.

        Args:
            item: The item.
            properties: Its `properties`, or an empty object if they are not an object.
        """
        raise NotImplementedError

    def notes(self, counts: Counts, *, whole: bool) -> list[str]:  # noqa: ARG002 - for filters that have notes
        """Return messages for the user after a walk.

        Args:
            counts: The verdicts of all filters.
            whole: True if all items of the source were judged.
        """
        return []


def left_out(counts: Counts, verdict: Verdict, why: str) -> list[str]:
    """Return a message about the items with this verdict, if there are any."""
    number = counts.get(verdict, 0)
    return [f"{count(number, 'item')} left out: {why}"] if number else []
