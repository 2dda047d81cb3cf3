"""The interface of filters on items (`ItemCheck`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from stacpull.models import Json
from stacpull.plurals import count
from stacpull.selection import Selection

LeftOut = Mapping[str, int]


class ItemCheck:
    """One compiled filter on items.

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
        number = counts.get(self.explained[0], 0) if self.explained else 0
        return [f"{count(number, 'item')} left out: {self.explained[1]}"] if self.explained and number else []

    @classmethod
    def conditions(cls, selection: Selection) -> Sequence[Json]:  # noqa: ARG003 - for filters that have some
        """Return conditions that every kept item meets, to push down: CQL2 JSON of class `basic-cql2`."""
        return ()
