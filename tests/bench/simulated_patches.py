"""A BigEarthNet of eight million files that is kept nowhere: the names, numbers and content of its files.

Patch `i` is a pure function of `i`: a label item with one file, and a source item with 12 or 13 files, in
the sizes of the real ones. `stacpull_replicas` has such a dataset, too, but it loads numpy and shapely, which
would count as memory of the mirror.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

ITEMS, ASSETS = 590_326, 8_000_000
"""The label items of BigEarthNet, and its files as they are counted here."""
LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
API = "https://hub.example/v1"
FILES = "https://files.example"

SIZES = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 29_192),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 7_560),
    **dict.fromkeys(("B01", "B09", "B10"), 1_160),
    "labels": 1_300,
}
SLOTS = {key: number for number, key in enumerate(SIZES)}
"""The number of a file among those of its patch, by the key of its asset."""
LABEL_JSON, SOURCE_JSON = 14, 15
"""The numbers of the two item JSON files of a patch."""
PER_PATCH = 16
_SIZE_OF = list(SIZES.values())
CIRRUS = "B10"
"""The band that only some patches have: it makes the number of files what was asked for."""
_HEAD = 8
"""Bytes at the start of a file that hold its number; the others are the same in all files of a size."""
_TAILS = {size: bytes(range(256)) * (size // 256 + 1) for size in _SIZE_OF}

ACQUISITIONS, _GRID = 125, 91
_PLACES = ACQUISITIONS * _GRID * _GRID
_FACTOR = 639_841
_INVERSE = pow(_FACTOR, -1, _PLACES)
DAYS = [date(2017, 6, 13) + timedelta(days=number * 350 // 124) for number in range(ACQUISITIONS)]
_PREFIXES = [
    f"S2{'AB'[number % 2]}_MSIL2A_{day:%Y%m%d}T{90_000 + 173 * number}" for number, day in enumerate(DAYS)
]
_NUMBERS = {prefix: number for number, prefix in enumerate(_PREFIXES)}


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of a dataset with so many files (`assets`), of which the first `items` are still there."""

    assets: int
    items: int

    @classmethod
    def of(cls, assets: int) -> Self:
        """Return the patches that have so many files, in the proportions of the whole dataset."""
        return cls(assets, cls.of_all(assets))

    @staticmethod
    def of_all(assets: int) -> int:
        """Return how many patches have so many files."""
        return max(1, round(assets * ITEMS / ASSETS))

    def name(self, index: int) -> str:
        """Return the name of a patch, such as `S2A_MSIL2A_20170613T90000_0_45`."""
        rest, row = divmod(index * _FACTOR % _PLACES, _GRID)
        number, column = divmod(rest, _GRID)
        return f"{_PREFIXES[number]}_{column}_{row}"

    def index_of(self, name: str) -> int | None:
        """Return the index of the patch of this name, None if there never was one."""
        prefix, _, row = name.rpartition("_")
        prefix, _, column = prefix.rpartition("_")
        number = _NUMBERS.get(prefix)
        if number is None or not (row.isdecimal() and column.isdecimal()):
            return None
        index = ((number * _GRID + int(column)) * _GRID + int(row)) * _INVERSE % _PLACES
        return index if index < self.of_all(self.assets) else None

    def has_cirrus(self, index: int) -> bool:
        """Return True if a patch has 13 bands, False if it has 12."""
        every = self.of_all(self.assets)
        more = self.assets - 13 * every
        return (index + 1) * more // every > index * more // every


def content(patch: int, slot: int) -> bytes:
    """Return the content of a file."""
    size = _SIZE_OF[slot]
    return (patch * PER_PATCH + slot).to_bytes(_HEAD, "little") + _TAILS[size][: size - _HEAD]


def number_in(body: bytes) -> int:
    """Return the number of the file that has this content."""
    return int.from_bytes(body[:_HEAD], "little")


def size_of(slot: int) -> int:
    """Return the size of a file in bytes."""
    return _SIZE_OF[slot]
