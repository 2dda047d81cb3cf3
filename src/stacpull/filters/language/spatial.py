"""The spatial operators of CQL2 over shapely. Imported where a filter has one: shapely is heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import shapely

from stacpull.filters.places import Places
from stacpull.filters.shapes import PREDICATES, read_shape
from stacpull.models import Json

__all__ = ["spatial_relation"]

Evaluate = Callable[[Json, dict[str, Any]], Any]

_TURNED: Final = {name: name for name in PREDICATES} | {"s_within": "s_contains", "s_contains": "s_within"}
"""Which operator says the same with its arguments in the other order."""


def spatial_relation(
    name: str, one: Evaluate, other: Evaluate, constants: Sequence[Any], places: Places
) -> Evaluate:
    """Return the judgement of a spatial operator; unknown where an item has no geometry that can be read.

    Args:
        name: The operator, in lower case.
        one: Its first argument, a geometry or its GeoJSON.
        other: Its second.
        constants: What is the same for every item, prepared here: shapely prepares only the first argument.
        places: Where items are noted whose geometry is too complex to be compared.
    """
    if constants[0] is None and constants[1] is not None:
        one, other, constants, name = other, one, (constants[1], constants[0]), _TURNED[name]
    predicate = PREDICATES[name]
    if isinstance(constants[0], shapely.Geometry):
        shapely.prepare(constants[0])

    def judge(item: Json, properties: dict[str, Any]) -> bool | None:
        first = _shape(one(item, properties), item, places)
        second = _shape(other(item, properties), item, places)
        if first is None or second is None:
            return None
        try:
            return bool(predicate(first, second))
        except shapely.errors.ShapelyError:  # a collection beside an operator that knows none
            return None

    return judge


def _shape(value: Any, item: Json, places: Places) -> Any:
    if value is None or isinstance(value, shapely.Geometry):
        return value
    found = read_shape(value)
    if found is not None and found.boxed:
        places.boxed.add(item)
    return None if found is None else found.geometry
