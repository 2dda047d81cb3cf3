"""Filters on ids and properties: `--ids`, `--shard`, `--where`, BigEarthNet's flags, `--max-cloud-cover`.

Shards and samples depend only on a hash of the id (and the seed): they are the same on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from stacpull.arguments import finite_number
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut
from stacpull.models import Json
from stacpull.selection import Selection

_OF_THE_ITEM: Final = frozenset({"id", "collection", "geometry", "bbox"})
_PREFIX: Final = "properties."
_WORDS: Final = {"true": True, "false": False}
_UNREADABLE_FLAG: Final = "unreadable flag"
_UNKNOWN_COVER: Final = "unknown cloud cover"


_SEPARATORS: Final = frozenset("_-/.:")
_NAMED = 3
_FILES: Final = (".csv", ".txt", ".json")


class IdsCheck(ItemCheck):
    """`--ids`: whole ids, or endings of ids after a separator: `5_45` is not an ending of `..._15_45`.

    Split lists have patch names (`S2A_MSIL2A_..._0_45`), the service `bigearthnet_v1_labels_S2A_...`. An item
    takes one look-up per distinct length of the selected ids.
    """

    fields = ("ids",)

    def __init__(self, ids: Sequence[str]) -> None:
        self._wanted = frozenset(text.strip() for text in ids)
        self._lengths = sorted({len(text) for text in self._wanted})
        self._found: set[str] = set()

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        name = item.get("id")
        if not isinstance(name, str):
            return "ids"
        size, found = len(name), name in self._wanted
        if found:
            self._found.add(name)
        for length in self._lengths:
            start = size - length
            if start <= 0:
                break
            if name[start - 1] in _SEPARATORS and (ending := name[start:]) in self._wanted:
                self._found.add(ending)
                found = True
        return None if found else "ids"

    def missing(self) -> list[str]:
        return sorted(self._wanted - self._found)

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        missing = self.missing() if whole else []
        if not missing:
            return []
        shown = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        file = next((name for name in missing if name.lower().endswith(_FILES)), None)
        hint = "" if file is None else f" To read ids from a file, use --ids @{file}."
        ids = f"{len(missing):,} of the {len(self._wanted):,} ids" if len(self._wanted) > 1 else "the id"
        return [f"No item matches {ids} in --ids: {shown}.{hint}"]


class ShardCheck(ItemCheck):
    """`--shard I/N`: part I of N of a collection, from 1 to N."""

    fields = ("shard",)

    def __init__(self, shard: tuple[int, ...]) -> None:
        self._number, self._count = shard[0] - 1, shard[1]

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        is_included = _hash(str(item.get("id")), b"shard") % self._count == self._number
        return None if is_included else "shard"


def rank_of(seed: int, item_id: str) -> int:
    """Return the rank of an item for a seed: 63 bits. A sample consists of the lowest ranks."""
    return _hash(f"{seed}\0{item_id}", b"sample") >> 1


def _hash(text: str, purpose: bytes) -> int:
    """Return a hash of 64 bits. Different purposes make shards and samples independent."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose).digest(), "big")


class Reference:
    """A name in a filter: `eo:cloud_cover`, `proj.code`, `collection`.

    It refers to, in this order: `id`, `collection`, `geometry` or `bbox` of the item; a property with exactly
    that name; a member of one (`view.sun.azimuth`, `bands.0.name`). `properties.` is optional. Absent and
    null are None.

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
    """`--where`: every property must have one of its values, compared as numbers or text.

    A list matches if any member does. Values are case-sensitive, and surrounding space is ignored.
    """

    fields = ("where",)

    def __init__(self, conditions: Sequence[str]) -> None:
        wanted: dict[str, list[str]] = {}
        for condition in conditions:
            name, sign, value = (part.strip() for part in condition.partition("="))
            if not sign or not name or name[-1] in "<>!" or value.startswith("="):
                raise UsageError(
                    f"--where {condition!r} is not property=value; use --filter for other comparisons."
                )
            wanted.setdefault(name, []).append(value)
        self._references = tuple(map(Reference, wanted))
        self._tests = [(reference, _has_any(wanted[reference.name])) for reference in self._references]

    def __call__(self, item: Json, properties: dict[str, Any]) -> str | None:
        for reference, has_any in self._tests:
            if not has_any(reference.value(item, properties)):
                return "where"
        return None

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        return unknown_names("--where", self._references) if counts.get("where") else []


def _has_any(wanted: Sequence[str]) -> Callable[[Any], bool]:
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
    """Read a boolean, "true", "false", 0 or 1; None and absent mean False. None for any other value."""
    if value is None or value is False or value is True:
        return value is True
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    return value == 1 if isinstance(value, int | float) and value in (0, 1) else None


class CloudCoverCheck(ItemCheck):
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
    def conditions(cls, selection: Selection) -> Sequence[Json]:
        most = selection.max_cloud_cover
        return () if most is None else [{"op": "<=", "args": [{"property": "eo:cloud_cover"}, most]}]
