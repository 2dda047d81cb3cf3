"""A BigEarthNet of any size up to the real one. It is not stored: patch `i` is a pure function of (seed, i).

Counts of flags are exact, not random. Of 590,326 patches, 61,707 have seasonal snow, 9,280 have cloud or
shadow, and none has both. Of the others, 55 have only classes that the 19-class nomenclature drops, which
leaves the recommended 519,284. Small data sets have a few per cent of each, so that every filter matters.

Names are as in the real set: acquisition, column, row, all unpadded. A permutation maps patches to the
125 x 91 x 91 possible places, so the index of a name, and the name of an index, are found in constant time.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import accumulate

from stacpull_replicas.acquisitions import (
    ACQUISITIONS,
    GRID,
    NUMBER_OF_PREFIX,
    PATCH_METRES,
    Acquisition,
    projection_wkt,
    to_lonlat,
)
from stacpull_replicas.draws import Permutation, fraction, mix
from stacpull_replicas.rasters import band_file

CLASS_WEIGHTS: dict[str, int] = {
    "Continuous urban fabric": 10784,
    "Discontinuous urban fabric": 69872,
    "Industrial or commercial units": 12895,
    "Road and rail networks and associated land": 3384,
    "Port areas": 509,
    "Airports": 979,
    "Mineral extraction sites": 4618,
    "Dump sites": 959,
    "Construction sites": 1174,
    "Green urban areas": 1786,
    "Sport and leisure facilities": 5353,
    "Non-irrigated arable land": 196695,
    "Permanently irrigated land": 13589,
    "Rice fields": 3793,
    "Vineyards": 9567,
    "Fruit trees and berry plantations": 4754,
    "Olive groves": 12538,
    "Pastures": 103554,
    "Annual crops associated with permanent crops": 7022,
    "Complex cultivation patterns": 107786,
    "Land principally occupied by agriculture, with significant areas of natural vegetation": 147095,
    "Agro-forestry areas": 30674,
    "Broad-leaved forest": 150944,
    "Coniferous forest": 211703,
    "Mixed forest": 217119,
    "Natural grassland": 12835,
    "Moors and heathland": 5890,
    "Sclerophyllous vegetation": 11241,
    "Transitional woodland/shrub": 173506,
    "Beaches, dunes, sands": 1578,
    "Bare rock": 3277,
    "Sparsely vegetated areas": 1563,
    "Burnt areas": 328,
    "Inland marshes": 6236,
    "Peatbogs": 23207,
    "Salt marshes": 1562,
    "Salines": 424,
    "Intertidal flats": 1003,
    "Water courses": 10572,
    "Water bodies": 83811,
    "Coastal lagoons": 1498,
    "Estuaries": 1086,
    "Sea and ocean": 81612,
}
"""The 43 CORINE Land Cover level-3 classes with the names of BigEarthNet v1, and its patches with each

(Sumbul et al., IGARSS 2019), so that generated patches are distributed as the real ones.
"""
CLASSES: tuple[str, ...] = tuple(CLASS_WEIGHTS)

DROPPED_BY_19: frozenset[str] = frozenset(
    {
        "Road and rail networks and associated land",
        "Port areas",
        "Airports",
        "Mineral extraction sites",
        "Dump sites",
        "Construction sites",
        "Green urban areas",
        "Sport and leisure facilities",
        "Bare rock",
        "Burnt areas",
        "Intertidal flats",
    }
)
"""Classes that the 19-class nomenclature drops."""

_LABELS_PER_PATCH = (17, 27, 25, 16, 9, 3, 1.5, 0.8, 0.4, 0.2, 0.07, 0.03)
"""Weights of 1, 2, … 12 labels: about 2.9 on average, 95 % at most five."""

_COUNT_STEPS = tuple(accumulate(_LABELS_PER_PATCH))
_ALL_STEPS = tuple(accumulate(CLASS_WEIGHTS.values()))
_KEPT = tuple(name for name in CLASSES if name not in DROPPED_BY_19)
_KEPT_STEPS = tuple(accumulate(CLASS_WEIGHTS[name] for name in _KEPT))
_DROPPED = tuple(name for name in CLASSES if name in DROPPED_BY_19)
_DROPPED_STEPS = tuple(accumulate(CLASS_WEIGHTS[name] for name in _DROPPED))
_RANK = {name: rank for rank, name in enumerate(CLASSES)}


def _pick(names: tuple[str, ...], steps: tuple[float, ...], at: float) -> str:
    return names[bisect(steps, at * steps[-1])]


def draw_labels(word: int, *, only_dropped: bool) -> tuple[str, ...]:
    """Return one to twelve distinct classes in nomenclature order.

    At least one of them is in the 19-class nomenclature. With `only_dropped`, there are one or two, and none
    is in it.
    """
    if only_dropped:
        wanted = 1 + word % 2
        names, steps = _DROPPED, _DROPPED_STEPS
        labels = set[str]()
    else:
        wanted = 1 + bisect(_COUNT_STEPS, fraction(word, 0) * _COUNT_STEPS[-1])
        names, steps = CLASSES, _ALL_STEPS
        labels = {_pick(_KEPT, _KEPT_STEPS, fraction(word, 1))}
    turn = 2
    while len(labels) < wanted:
        labels.add(_pick(names, steps, fraction(word, turn)))
        turn += 1
    return tuple(sorted(labels, key=_RANK.__getitem__))


MAX_ITEMS = 590_326
SNOW, CLOUD, ONLY_DROPPED = 61_707, 9_280, 55
"""Patches of the full set with snow, with cloud or shadow, with no label in the 19-class nomenclature."""

_SMALL = 20_000
_SMALL_SHARES = (0.08, 0.04, 0.01)
_NAME = re.compile(r"(S2[AB]_MSIL2A_\d{8}T\d{5,6})_(0|[1-9]\d?)_(0|[1-9]\d?)", re.ASCII)
_LABELS, _ABSENCE = 11, 13  # purposes of draws

Ring = list[list[float]]


class Flag(Enum):
    """A property of a patch besides its labels."""

    NONE = 0
    SNOW = 1
    CLOUD = 2
    ONLY_DROPPED = 3


@dataclass(frozen=True, slots=True)
class Site:
    """The position and name of one patch of 1.2 km."""

    index: int
    name: str
    acquisition: Acquisition
    column: int
    row: int

    @property
    def corner(self) -> tuple[int, int]:
        return (
            self.acquisition.easting + self.column * PATCH_METRES,
            self.acquisition.northing - self.row * PATCH_METRES,
        )

    def ring(self, *, broken: bool = False) -> Ring:
        """Return the closed outline in degrees, clockwise from the upper left.

        The service of 2021 swapped the axes of the lower right corner before projecting it (`broken`), which
        made the bounding box of a patch as large as a continent.
        """
        left, top = self.corner
        right, bottom = left + PATCH_METRES, top - PATCH_METRES
        third = (bottom, right) if broken else (right, bottom)
        corners = ((left, top), (right, top), third, (left, bottom))
        ring = [list(to_lonlat(self.acquisition.zone, x, y)) for x, y in corners]
        return [*ring, ring[0]]


@dataclass(frozen=True, slots=True)
class Patch(Site):
    """One patch with its labels."""

    labels: tuple[str, ...]
    seasonal_snow: bool
    cloud_and_shadow: bool

    def metadata(self) -> bytes:
        """Return the content of `<patch>_labels_metadata.json`."""
        left, top = self.corner
        corners = {"ulx": left, "uly": top, "lrx": left + PATCH_METRES, "lry": top - PATCH_METRES}
        document = {
            "labels": list(self.labels),
            "coordinates": corners,
            "projection": projection_wkt(self.acquisition.zone),
            "tile_source": self.acquisition.tile_source,
            "acquisition_date": self.acquisition.moment.strftime("%Y-%m-%d %H:%M:%S"),
        }
        return json.dumps(document).encode()


@dataclass(frozen=True)
class Dataset:
    """`items` patches of `seed`."""

    items: int = 400
    seed: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.items <= MAX_ITEMS:
            raise ValueError(f"a data set has 1 to {MAX_ITEMS} items, not {self.items}")

    @cached_property
    def _places(self) -> Permutation:
        return Permutation.seeded(len(ACQUISITIONS) * GRID * GRID, self.seed, 1)

    @cached_property
    def _ranks(self) -> Permutation:
        return Permutation.seeded(self.items, self.seed, 2)

    @cached_property
    def _flag_limits(self) -> tuple[int, int, int]:
        if self.items < _SMALL:
            snow, cloud, dropped = (round(self.items * share) for share in _SMALL_SHARES)
        else:
            snow, cloud, dropped = (
                round(self.items * count / MAX_ITEMS) for count in (SNOW, CLOUD, ONLY_DROPPED)
            )
        return snow, snow + cloud, snow + cloud + dropped

    def flag(self, index: int) -> Flag:
        rank = self._ranks.forward(index)
        snow, cloud, dropped = self._flag_limits
        if rank >= dropped:
            return Flag.NONE
        if rank >= cloud:
            return Flag.ONLY_DROPPED
        return Flag.CLOUD if rank >= snow else Flag.SNOW

    def acquisition_of(self, index: int) -> int:
        return self._places.forward(index) // (GRID * GRID)

    def name(self, index: int) -> str:
        """Return the patch name, such as `S2A_MSIL2A_20170613T101031_0_45`."""
        place, row = divmod(self._places.forward(index), GRID)
        number, column = divmod(place, GRID)
        return f"{ACQUISITIONS[number].prefix}_{column}_{row}"

    def index_of(self, name: str) -> int | None:
        """Return the index of the patch with this name; None if the data set has none."""
        match = _NAME.fullmatch(name)
        number = NUMBER_OF_PREFIX.get(match[1]) if match else None
        if match is None or number is None:
            return None
        column, row = int(match[2]), int(match[3])
        if column >= GRID or row >= GRID:
            return None
        index = self._places.backward((number * GRID + column) * GRID + row)
        return index if index < self.items else None

    def site(self, index: int) -> Site:
        if not 0 <= index < self.items:
            raise IndexError(f"patch {index} of {self.items}")
        place, row = divmod(self._places.forward(index), GRID)
        number, column = divmod(place, GRID)
        acquisition = ACQUISITIONS[number]
        return Site(index, f"{acquisition.prefix}_{column}_{row}", acquisition, column, row)

    def patch(self, index: int) -> Patch:
        site = self.site(index)
        flag = self.flag(index)
        return Patch(
            index=index,
            name=site.name,
            acquisition=site.acquisition,
            column=site.column,
            row=site.row,
            labels=self.labels(index, flag),
            seasonal_snow=flag is Flag.SNOW,
            cloud_and_shadow=flag is Flag.CLOUD,
        )

    def patches(self) -> Iterator[Patch]:
        return map(self.patch, range(self.items))

    def flag_properties(self, patch: Patch) -> dict[str, bool]:
        """Return the flags as item properties. A false one may be absent."""
        flags = {"seasonal_snow": patch.seasonal_snow, "cloud_and_shadow": patch.cloud_and_shadow}
        return {
            name: value
            for number, (name, value) in enumerate(flags.items())
            if value or mix(self.seed, patch.index, _ABSENCE, number) % 32
        }

    def has_class_list(self, index: int) -> bool:
        """Return True if the label item has `label:classes`. The first has it; one in 64 others does not."""
        return index == 0 or mix(self.seed, index, _ABSENCE, 2) % 64 != 0

    def band(self, patch: Site, band: str) -> bytes:
        classes = _classes(self, patch.index)
        return band_file(self.seed, patch.index, band, patch.acquisition.zone, patch.corner, classes)

    def labels(self, index: int, flag: Flag) -> tuple[str, ...]:
        return draw_labels(mix(self.seed, index, _LABELS), only_dropped=flag is Flag.ONLY_DROPPED)


@lru_cache(maxsize=256)
def _classes(dataset: Dataset, index: int) -> tuple[int, ...]:
    return tuple(map(CLASSES.index, dataset.labels(index, dataset.flag(index))))
