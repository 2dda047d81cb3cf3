"""Compute the names, numbers and content of the files of a BigEarthNet with eight million files.

Patch `i` is a pure function of `i`: a label item with one file, and a source item with 12 or 13 files, with
the sizes of the real files. The dataset of `stacpull_replicas` imports numpy and shapely, which would count
as memory of the mirror.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

ITEMS, ASSETS = 590_326, 8_000_000
"""The numbers of label items and of files."""
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
"""The number of a file within its patch, by asset key."""
LABEL_JSON, SOURCE_JSON = 14, 15
"""The numbers of the two item JSON files of a patch."""
PER_PATCH = 16
_SIZE_OF = list(SIZES.values())
CIRRUS = "B10"
"""Only some patches have this band, so that the number of files is exact."""
_HEAD = 8
"""The first bytes of a file hold its number; the rest is the same in all files of one size."""
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
    """The patches of a dataset with `assets` files. Only the first `items` patches still exist."""

    assets: int
    items: int

    @classmethod
    def of(cls, assets: int) -> Self:
        """Return patches with `assets` files, in the proportions of the whole dataset."""
        return cls(assets, cls.of_all(assets))

    @staticmethod
    def of_all(assets: int) -> int:
        """Return how many patches have `assets` files."""
        return max(1, round(assets * ITEMS / ASSETS))

    def name(self, index: int) -> str:
        """Return the name of a patch, such as `S2A_MSIL2A_20170613T90000_0_45`."""
        rest, row = divmod(index * _FACTOR % _PLACES, _GRID)
        number, column = divmod(rest, _GRID)
        return f"{_PREFIXES[number]}_{column}_{row}"

    def index_of(self, name: str) -> int | None:
        """Return the index of the patch with this name, None if it never existed."""
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
    size = _SIZE_OF[slot]
    return (patch * PER_PATCH + slot).to_bytes(_HEAD, "little") + _TAILS[size][: size - _HEAD]


def number_in(body: bytes) -> int:
    """Return the number of the file with this content."""
    return int.from_bytes(body[:_HEAD], "little")


def size_of(slot: int) -> int:
    return _SIZE_OF[slot]
