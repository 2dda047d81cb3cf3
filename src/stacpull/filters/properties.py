"""Filters on properties of items: `--where`, the two flags of BigEarthNet and `--max-cloud-cover`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from stacpull.arguments import finite_number
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut, is_at_most
from stacpull.models import Json
from stacpull.selection import Selection

_OF_THE_ITEM: Final = frozenset({"id", "collection", "geometry", "bbox"})
_PREFIX: Final = "properties."
_WORDS: Final = {"true": True, "false": False}
_UNREADABLE_FLAG: Final = "unreadable flag"
_UNKNOWN_COVER: Final = "unknown cloud cover"


class Reference:
    """A name in a filter: `eo:cloud_cover`, `proj.code`, `collection`.

    A name refers to, in this order: `id`, `collection`, `geometry` or `bbox` of the item itself; a property
    with exactly that name; a member of a property, with dots between the names (`view.sun.azimuth`,
    `bands.0.name`). The prefix `properties.` is optional. Absent and null are equal: None.

    Attributes:
        name: The name as written by the user.
        found: True if any item had a value. A name that no item has is probably misspelt.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = False
        self._name = name.removeprefix(_PREFIX)
        self._path = tuple(self._name.split(".")) if "." in self._name else ()

    def value(self, item: Json, properties: dict[str, Any]) -> Any:
        value = item.get(self._name) if self._name in _OF_THE_ITEM else properties.get(self._name)
        if value is None and self._path:
            value = properties
            for name in self._path:
                if isinstance(value, dict):
                    value = value.get(name)
                elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
                    value = value[int(name)]
                else:
                    value = None
        if value is not None:
            self.found = True
        return value


def unknown_names(option: str, references: Sequence[Reference]) -> list[str]:
    """Return messages about names that no item had: probably misspelt, or strings in the wrong quotes."""
    hint = " (text needs single quotes)" if option == "--filter" else ""
    names = dict.fromkeys(reference.name for reference in references if not reference.found)
    return [f"{option} contains {name!r}, but no tested item has this property{hint}." for name in names]


class WhereCheck(ItemCheck):
    """`--where`: keeps items whose properties have given values, as numbers or text.

    `--where platform=sentinel-2a --where 'proj:epsg=32633'`: every property must have one of its values;
    several values of one property are alternatives. A list matches if any member matches. Values are
    case-sensitive, and surrounding space is ignored.
    """

    fields = ("where",)

    def __init__(self, conditions: Sequence[str]) -> None:
        wanted = _by_property(conditions)
        self._references = tuple(map(Reference, wanted))
        self._tests = [(reference, _has_any(wanted[reference.name])) for reference in self._references]

    def __call__(self, item: Json, properties: dict[str, Any]) -> str | None:
        for reference, has_any in self._tests:
            if not has_any(reference.value(item, properties)):
                return "where"
        return None

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        return unknown_names("--where", self._references) if counts.get("where") else []

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        """Compare the conditions: the values of each property are alternatives."""
        had, kept = _by_property(wide.where), _by_property(narrow.where)
        return all(name in kept and set(kept[name]) <= set(values) for name, values in had.items())


def _by_property(conditions: Sequence[str]) -> dict[str, list[str]]:
    """Return the wanted values of each property."""
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        name, value = name.strip(), value.strip()
        if not sign or not name or name[-1] in "<>!" or value.startswith("="):
            raise UsageError(
                f"--where {condition!r} is not property=value; use --filter for other comparisons."
            )
        wanted.setdefault(name, []).append(value)
    return wanted


def _has_any(wanted: Sequence[str]) -> Callable[[Any], bool]:
    """Return a test of a property's value: as text, and as a number if a wanted value is one."""
    texts = frozenset(wanted)
    numbers = frozenset(number for text in wanted if (number := finite_number(text)) is not None)

    def is_wanted(value: Any) -> bool:
        if isinstance(value, str):
            return value.strip() in texts or (bool(numbers) and finite_number(value) in numbers)
        if isinstance(value, bool):
            return str(value).lower() in texts or str(value) in texts
        return isinstance(value, int | float) and (value in numbers or str(value) in texts)

    return lambda value: any(map(is_wanted, value)) if isinstance(value, list) else is_wanted(value)


class FlagCheck(ItemCheck):
    """`--cloud-and-shadow` and `--seasonal-snow`: the two flags of BigEarthNet's label items."""

    fields = ("cloud_and_shadow", "seasonal_snow")
    explained = (_UNREADABLE_FLAG, "cloud_and_shadow or seasonal_snow is not a valid flag.")

    def __init__(self, wanted: Mapping[str, bool]) -> None:
        self._wanted = wanted

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        wanted = {name: value for name in cls.fields if (value := getattr(selection, name)) is not None}
        return cls(wanted) if wanted else None

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        flags = {name: read_flag(properties.get(name)) for name in self._wanted}
        if None in flags.values():
            return _UNREADABLE_FLAG
        other = (name.replace("_", " ") for name, wanted in self._wanted.items() if flags[name] is not wanted)
        return next(other, None)


def read_flag(value: object) -> bool | None:
    """Return a flag's value: a boolean, "true" or "false" in any case, 0 or 1. None and absent mean False.

    The result is None for any other value.
    """
    if value is None or value is False or value is True:
        return value is True
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    return value == 1 if isinstance(value, int | float) and value in (0, 1) else None


class CloudCoverCheck(ItemCheck):
    """`--max-cloud-cover`: keeps items with at most this `eo:cloud_cover` in per cent."""

    fields = ("max_cloud_cover",)
    explained = (_UNKNOWN_COVER, "eo:cloud_cover is absent or not a number.")

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        cover = finite_number(properties.get("eo:cloud_cover"))
        if cover is None:
            return _UNKNOWN_COVER
        return None if cover <= self._most else "cloud cover"

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        return is_at_most(wide.max_cloud_cover, narrow.max_cloud_cover)

    @classmethod
    def conditions(cls, selection: Selection) -> Sequence[Json]:
        most = selection.max_cloud_cover
        return () if most is None else [{"op": "<=", "args": [{"property": "eo:cloud_cover"}, most]}]
