"""The interface of filters on items (`ItemCheck`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

from stacpull.models import Json
from stacpull.plurals import count
from stacpull.selection import Selection

LeftOut = Mapping[str, int]
"""The number of items that the filters left out, by reason."""


class ItemCheck:
    """One compiled filter on items: all that is known about it.

    Attributes:
        fields: The fields of a selection from which it is compiled.
        may_take_long: True if one item can take a second.
        explained: A reason that deserves a message after a walk, and its words.
    """

    fields: ClassVar[tuple[str, ...]]
    may_take_long = False
    explained: tuple[str, str] | None = None

    def __init__(self, value: Any) -> None:
        """Compile the value of the only field. Raises `UsageError` if it is invalid."""

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        """Compile the filter of a selection, or return None if it is not set."""
        value = getattr(selection, cls.fields[0])
        return None if value in (None, ()) else cls(value)

    def __call__(self, item: Json, properties: dict[str, Any]) -> str | None:
        """Return why an item is left out, or None if it is kept. Never raises, even for an invalid item.

        The reason is two or three words, which summaries and `--json` show with the number of items.
        """
        raise NotImplementedError

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - for some filters
        """Return messages after a walk that left out `counts`. `whole`: it judged all items."""
        return [] if self.explained is None else left_out(counts, *self.explained)

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        """Return whether the filter of `wide` keeps all items that the filter of `narrow` keeps.

        Return True only if that is certain: this run (`wide`) then gives up the open assets of the other run.
        """
        return all(is_equal_or_unset(getattr(wide, name), getattr(narrow, name)) for name in cls.fields)

    @classmethod
    def conditions(cls, selection: Selection) -> Sequence[Json]:  # noqa: ARG003 - for filters that have some
        """Return conditions that every kept item meets, to push down: CQL2 JSON of class `basic-cql2`."""
        return ()


def is_equal_or_unset(wide: object, narrow: object) -> bool:
    """Compare the values of a filter that can be written in different ways."""
    return wide in (None, (), narrow)


def is_part(wide: Collection[str], narrow: Collection[str]) -> bool:
    """Compare the values of a filter whose values are alternatives. Without values it keeps everything."""
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def is_at_most(wide: float | None, narrow: float | None) -> bool:
    """Compare the limits of a filter."""
    return wide is None or (narrow is not None and narrow <= wide)


def left_out(counts: LeftOut, reason: str, why: str) -> list[str]:
    """Return a message about the items that were left out for this reason, if there are any."""
    number = counts.get(reason, 0)
    return [f"{count(number, 'item')} left out: {why}"] if number else []
