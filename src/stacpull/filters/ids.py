"""Filters on the ids of items: `--ids`, `--shard` and `--sample`.

Shards and samples depend only on a stable hash of the id (and the seed). An item is in the same shard and has
the same rank in a sample on any machine, independent of pages and their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from stacpull.filters.check import ItemCheck, LeftOut, is_part
from stacpull.models import Json
from stacpull.selection import Selection

_SEPARATORS: Final = frozenset("_-/.:")
_NAMED = 3
"""The most ids in a message."""
_FILES: Final = (".csv", ".txt", ".json")


class IdsCheck(ItemCheck):
    """`--ids`: whole ids, or endings of ids.

    Official split lists contain patch names (`S2A_MSIL2A_..._0_45`) while the service uses
    `bigearthnet_v1_labels_S2A_MSIL2A_..._0_45`. An ending must start after a separator: `5_45` is not an
    ending of `..._15_45`. An item takes one look-up per distinct length of the selected ids.
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
        """Return the sorted ids that no item has matched so far."""
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

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        return is_part(wide.ids, narrow.ids)


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
