"""The `--where` filter: a property has a value, whether it is written there as a number or as text.

`--where platform=sentinel-2a --where 'proj:epsg=32633'`: values of one property are alternatives, properties
add up. A property that is a list has each of its members. Case counts; outer space does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from stacpull.errors import UsageError
from stacpull.filters.properties import Reference
from stacpull.filters.verdict import Verdict
from stacpull.models import Json

__all__ = ["WhereCheck", "compile_where"]


class WhereCheck:
    """Predicate: every property asked for has one of the values asked for.

    Attributes:
        references: The names of the properties.
    """

    __slots__ = ("_asked", "references")

    def __init__(self, asked: dict[str, list[str]]) -> None:
        self.references = tuple(Reference(name) for name in asked)
        self._asked: tuple[tuple[Reference, Callable[[Any], bool]], ...] = tuple(
            (reference, _has_any(asked[reference.name])) for reference in self.references
        )

    def __call__(self, item: Json, properties: dict[str, Any]) -> Verdict | None:
        """Return WHERE if a property has none of its values."""
        for reference, has_any in self._asked:
            if not has_any(reference.value(item, properties)):
                return Verdict.WHERE
        return None


def compile_where(conditions: Sequence[str]) -> WhereCheck | None:
    """Compile `Selection.where`; None if it has none.

    Raises:
        UsageError: A condition is not `property=value`.
    """
    asked: dict[str, list[str]] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        name, value = name.strip(), value.strip()
        if not sign or not name or name[-1] in "<>!" or value.startswith("="):
            raise UsageError(
                f"--where {condition!r} is not property=value; for other comparisons there is --filter."
            )
        asked.setdefault(name, []).append(value)
    return WhereCheck(asked) if asked else None


def _has_any(wanted: Sequence[str]) -> Callable[[Any], bool]:
    """Return the test of a property's value: as text, and as a number where what is wanted is one."""
    texts = frozenset(wanted)
    numbers = frozenset(number for text in wanted if (number := _number(text)) is not None)

    def is_one(value: Any) -> bool:
        if isinstance(value, str):
            return value.strip() in texts or (bool(numbers) and _number(value) in numbers)
        if isinstance(value, bool):
            return str(value).lower() in texts or str(value) in texts
        return isinstance(value, int | float) and (value in numbers or str(value) in texts)

    return lambda value: any(map(is_one, value)) if isinstance(value, list) else is_one(value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
