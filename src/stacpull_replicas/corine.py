"""The 43 CORINE Land Cover level-3 classes with the names of BigEarthNet v1, and their frequencies.

Weights are the patch counts per class published with BigEarthNet v1 (Sumbul et al., IGARSS 2019), so that
generated patches are distributed as the real ones: forests are common, rice fields are rare.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

from stacpull_replicas.draws import fraction

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
