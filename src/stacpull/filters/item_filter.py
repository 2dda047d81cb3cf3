"""Compiles the item filters of a selection into one predicate, and pushes filters down.

Every filter is applied here, even if it was pushed down to the service. The first that rejects is the reason.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from stacpull.boxes import split
from stacpull.clock import in_utc, parse_instant
from stacpull.filters.cql2 import ExpressionCheck, parse_filter
from stacpull.filters.item_checks import (
    AreaCheck,
    BboxCheck,
    BooleanCheck,
    CloudCoverCheck,
    DatetimeCheck,
    IdsCheck,
    ItemCheck,
    LeftOut,
    ShardCheck,
    WhereCheck,
    end_text,
    parse_interval,
)
from stacpull.filters.labels import LabelCheck
from stacpull.json_values import object_or_empty
from stacpull.models import Json
from stacpull.selection import Selection

FILTERS = (
    IdsCheck,  # first: it records which ids were found, even if another filter rejects the item
    ShardCheck,
    BooleanCheck,
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
    checks: tuple[ItemCheck, ...]

    def judge(self, item: Json) -> str | None:
        """Return why the item is left out, or None if it matches. Never raises, even for an invalid item."""
        properties = object_or_empty(item.get("properties"))
        for check in self.checks:
            reason = check(item, properties)
            if reason is not None:
                return reason
        return None

    def notes(self, counts: LeftOut, *, complete: bool = False) -> list[str]:
        """Return messages after a walk that left out `counts`. `complete`: it judged all items."""
        return [note for check in self.checks for note in check.notes(counts, complete=complete)]


def compile_items(selection: Selection) -> ItemFilter:
    checks = (kind.of(selection) for kind in FILTERS)
    return ItemFilter(tuple(check for check in checks if check is not None))


# --- pushing down -----------------------------------------------------------------------------------------

_LAST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC) - timedelta(seconds=1)
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}


class Narrowing(NamedTuple):
    """The part of a selection to push down: a service may return too many items, never too few.

    Times are rounded outwards, and never part of CQL2: services differ in `datetime` of ranges, whole days
    and zones. Of CQL2, only comparisons of a property with a number, and equality with a string or boolean,
    are sent. Order of strings (collations differ) and endings of ids are not.
    """

    bbox: tuple[float, float, float, float] | None = None
    """W, S, E, N in degrees, W not above E; the bounding box of `area` if there is one."""
    area: Json | None = None
    datetime: str | None = None
    """An instant or interval of RFC 3339, in UTC."""
    condition: Json | None = None
    """CQL2 JSON of class `basic-cql2`."""
    ids: tuple[str, ...] = ()
    """Whole ids, or endings of ids."""
    order: Json | None = None
    """`field` and `direction` of `--sortby` (STAC API, sort extension)."""

    def __bool__(self) -> bool:
        return any(value for value in self)


def narrowing(selection: Selection) -> Narrowing:
    """Return the filters that can be pushed down, none with `--no-push-down`; and the order."""
    order = None
    if selection.sortby is not None:
        name = selection.sortby.removeprefix("-")
        field = name if name in {"id", "collection"} else f"properties.{name}"
        order = {"field": field, "direction": "asc" if name == selection.sortby else "desc"}
    if not selection.push_down:
        return Narrowing(order=order)
    bbox, area = _area(selection)
    conditions = [condition for check in FILTERS for condition in check.conditions(selection)]
    expression = None if selection.filter is None else _condition(parse_filter(selection.filter))
    condition = _joined("and", [*conditions, *([] if expression is None else [expression])])
    ids = tuple(dict.fromkeys(text.strip() for text in selection.ids))
    return Narrowing(bbox, area, _period(selection.datetime), condition, ids, order)


def _area(selection: Selection) -> tuple[tuple[float, float, float, float] | None, Json | None]:
    """Return the box and the geometry. Services accept one of them, and the geometry is more precise.

    They reject geometry collections, and longitudes beyond 180 degrees.
    """
    if selection.intersects is not None:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        area = shapes.read_area(selection.intersects, "--intersects")
        if shapes.exceeds_the_globe(area):
            return None, None
        return area.bounds, None if area.geom_type == "GeometryCollection" else shapes.geojson(area)
    if selection.bbox is None:
        return None, None
    boxes = split(selection.bbox)
    if len(boxes) == 1:
        return boxes[0], None
    rings = [[[w, s], [e, s], [e, n], [w, n], [w, s]] for w, s, e, n in boxes]
    return None, {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _period(text: str | None) -> str | None:
    if text is None:
        return None
    first, last = parse_interval(text)
    start, end = end_text(first), end_text(last)
    if last is not None and last.microsecond:
        end = end_text(min(in_utc(last), _LAST) + timedelta(seconds=1))
    return start if start == end else f"{start}/{end}"


def _condition(node: Any, *, negated: bool = False) -> Json | None:
    """Return a condition in the form to push down, or None if it cannot be pushed down.

    Parts of an AND are left out, but not inside NOT. Inside NOT, IN does not become equality either: of an
    item without the property, one of them may be false and the other unknown.
    """
    if not isinstance(node, dict) or not isinstance(node.get("args"), list):
        return None
    name, arguments = str(node.get("op")).lower(), node["args"]
    parts: list[Json | None]
    match name:
        case "and" | "or" | "not":
            parts = [_condition(one, negated=negated or name == "not") for one in arguments]
        case "between":
            value, low, high = arguments
            name, parts = "and", [_comparison(">=", value, low), _comparison("<=", value, high)]
        case "in" if isinstance(arguments[1], list) and not negated:
            name, parts = "or", [_comparison("=", arguments[0], member) for member in arguments[1]]
        case _:
            return _comparison(name, *arguments) if name in _MIRRORED else None
    usable = [part for part in parts if part is not None]
    if len(usable) < len(parts) and (negated or name != "and"):
        return None
    return {"op": "not", "args": usable} if name == "not" else _joined(name, usable)


def _comparison(sign: str, one: Any, other: Any) -> Json | None:
    if isinstance(other, dict):
        sign, one, other = _MIRRORED[sign], other, one
    name = one.get("property") if isinstance(one, dict) else None
    if not isinstance(name, str):
        return None
    name = name.removeprefix("properties.")
    is_number = isinstance(other, int | float) and not isinstance(other, bool)
    is_plain = isinstance(other, bool) or (isinstance(other, str) and parse_instant(other) is None)
    if "." in name or name in {"datetime", "geometry", "bbox"} or not (is_number or is_plain):
        return None
    return {"op": sign, "args": [{"property": name}, other]} if is_number or sign in ("=", "<>") else None


def _joined(name: str, conditions: list[Json]) -> Json | None:
    if len(conditions) > 1:
        return {"op": name, "args": conditions}
    return conditions[0] if conditions else None
