"""Land-cover labels: their filter, the label classes of a collection, and the nomenclatures of BigEarthNet.

Labels are read from `properties.labels` (a list or a string), else from `label:overviews` (names with a count
above zero), or only from the property of `--label-property`. Case and surrounding space are ignored. A
misspelt label would match nothing after hours of walking, so it is rejected before, with the nearest names.

The names and order of the 43 classes are those of the CORINE Land Cover nomenclature (level 3) in BigEarthNet
v1. The 19 classes are those of Sumbul et al., "BigEarthNet-MM", IEEE GRSM 2021, table 2 (also in TorchGeo's
dataset). Classes are mapped by name, because some tools list the 43 alphabetically.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal, Self

from stacpull.caches import cached_if_short
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck
from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Json
from stacpull.selection import Selection
from stacpull.spelling import similar

Nomenclature = Literal["clc43", "ben19"]

CLC43: Final = (
    "Continuous urban fabric",
    "Discontinuous urban fabric",
    "Industrial or commercial units",
    "Road and rail networks and associated land",
    "Port areas",
    "Airports",
    "Mineral extraction sites",
    "Dump sites",
    "Construction sites",
    "Green urban areas",
    "Sport and leisure facilities",
    "Non-irrigated arable land",
    "Permanently irrigated land",
    "Rice fields",
    "Vineyards",
    "Fruit trees and berry plantations",
    "Olive groves",
    "Pastures",
    "Annual crops associated with permanent crops",
    "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grassland",
    "Moors and heathland",
    "Sclerophyllous vegetation",
    "Transitional woodland/shrub",
    "Beaches, dunes, sands",
    "Bare rock",
    "Sparsely vegetated areas",
    "Burnt areas",
    "Inland marshes",
    "Peatbogs",
    "Salt marshes",
    "Salines",
    "Intertidal flats",
    "Water courses",
    "Water bodies",
    "Coastal lagoons",
    "Estuaries",
    "Sea and ocean",
)
"""The 43 level-3 names, in CORINE's index order."""

BEN19: Final[dict[str, tuple[str, ...]]] = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}
"""The 19 classes, each with its classes of the 43. 11 of the 43 belong to none."""

TO_BEN19: Final[dict[str, str]] = {old: new for new, olds in BEN19.items() for old in olds}
"""Maps names of the 43 classes to names of the 19."""

NO_LABEL_IN_NOMENCLATURE: Final = "no label in nomenclature"
"""Why an item is left out that has no label of `--nomenclature`."""

NOMENCLATURES: Final[dict[str, tuple[str, ...]]] = {"clc43": CLC43, "ben19": tuple(BEN19)}
"""The values of `--nomenclature`, with their class names."""


@cached_if_short(4096)
def fold(name: str) -> str:
    """Return a label in the form for comparison."""
    return name.strip().casefold()


_FOLDED_43: Final = {fold(name): name for name in CLC43}
_FOLDED_TO_19: Final = {fold(old): fold(new) for old, new in TO_BEN19.items()} | {
    fold(name): fold(name) for name in BEN19
}


def item_labels(properties: dict[str, Any], label_property: str | None = None) -> list[str]:
    value = properties.get(label_property or "labels")
    if value is None and label_property is None:  # the counts of the label extension 1.0
        counts = [
            one
            for view in objects_in(properties.get("label:overviews"))
            for one in objects_in(view.get("counts"))
        ]
        value = [one.get("name") for one in counts if _is_positive(one.get("count"))]
    names = value if isinstance(value, list) else [value]
    return [label if isinstance(label, str) else str(label) for label in names if label is not None]


def _is_positive(count: object) -> bool:
    return isinstance(count, int | float) and count > 0


class LabelCheck(ItemCheck):
    """`--label`, `--exclude-label` and `--nomenclature`."""

    fields = ("labels", "label_mode", "exclude_labels", "label_property", "nomenclature")
    explained = (NO_LABEL_IN_NOMENCLATURE, "they have no label in ben19.")

    def __init__(self, selection: Selection) -> None:
        self._wanted = frozenset(map(fold, selection.labels))
        self._excluded = frozenset(map(fold, selection.exclude_labels))
        self._needs_all = selection.label_mode == "all"
        self._property = selection.label_property
        self._nomenclature = selection.nomenclature

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        is_needed = selection.labels or selection.exclude_labels or selection.nomenclature == "ben19"
        return cls(selection) if is_needed else None

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        labels = {fold(label) for label in item_labels(properties, self._property)}
        if self._nomenclature == "ben19":
            labels = {_FOLDED_TO_19[label] for label in labels if label in _FOLDED_TO_19}
            if not labels:
                return NO_LABEL_IN_NOMENCLATURE
        if self._needs_all or not self._wanted:
            is_satisfied = self._wanted <= labels
        else:
            is_satisfied = not self._wanted.isdisjoint(labels)
        if not is_satisfied:
            return "label"
        return None if labels.isdisjoint(self._excluded) else "excluded label"

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        """Compare the labels, and the fields that determine an item's labels if a filter on labels is set."""
        names, others = ((one.label_property, one.nomenclature) for one in (wide, narrow))
        if names != others and (wide.labels or wide.exclude_labels or wide.nomenclature):
            return False
        had, kept = (frozenset(map(fold, one.labels)) for one in (wide, narrow))
        excluded, still = (frozenset(map(fold, one.exclude_labels)) for one in (wide, narrow))
        needs_one = narrow.label_mode == "any" and len(kept) > 1
        if not had or not kept:
            is_wider = not had
        elif wide.label_mode == "all":
            is_wider = not needs_one and had <= kept
        else:
            is_wider = kept <= had if needs_one else not kept.isdisjoint(had)
        return is_wider and excluded <= still


# --- the classes of a collection --------------------------------------------------------------------------

_UNNAMED: Final = "labels"
"""The name for a class list without one (raster labels do not need one, plain lists do not have one)."""

_FLAGS: Final = frozenset({"cloud_and_shadow", "seasonal_snow"})
"""Properties with classes that have their own options (`filters.properties`)."""


def class_list(items: Iterable[Json], collection: Json | None) -> dict[str, tuple[str, ...]]:
    """Return the class lists of a collection and its items: class names by the name of the list.

    They are `label:classes` in the properties of items, and `label:classes` and `labels` in the summaries of
    the collection. They have the form of the label extension (a list of `{name, classes}`) or of MLHub (one
    such object, a list in a list, or plain names).
    """
    summaries = object_or_empty((collection or {}).get("summaries"))
    stated = [summaries.get("label:classes"), summaries.get("labels")]
    stated += [object_or_empty(item.get("properties")).get("label:classes") for item in items]
    found: dict[str, dict[str, None]] = {}
    for member in (member for value in stated for member in _members(value)):
        name, classes = _UNNAMED, [member]
        if isinstance(member, dict):
            name, classes = str(member.get("name") or _UNNAMED), _members(member.get("classes"))
        names = [str(one) for one in classes if isinstance(one, str | int | float)]
        found.setdefault(name, {}).update(dict.fromkeys(names))
    return {name: tuple(classes) for name, classes in found.items() if classes}


def _members(value: object) -> list[object]:
    """Return the members of a list and of lists directly in it, or the value itself if it is not a list."""
    listed = value if isinstance(value, list) else [value]
    return [one for member in listed for one in (member if isinstance(member, list) else [member])]


def check_labels(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Check the labels of a selection against the nomenclature, or else the collection's `classes`."""
    wanted = (*selection.labels, *selection.exclude_labels)
    if selection.nomenclature is not None:
        known = NOMENCLATURES[selection.nomenclature]
    elif selection.label_property is not None:
        known = classes.get(selection.label_property, ())
    elif _UNNAMED in classes:
        known = classes[_UNNAMED]
    else:  # the labels are in `label:overviews`
        known = tuple(name for listed, names in classes.items() if listed not in _FLAGS for name in names)
    if not wanted:
        return []
    if not known:
        quoted = ", ".join(repr(label) for label in wanted)
        return [f"The collection has no list of label classes: {quoted} could not be checked."]
    spelled = {fold(name): name for name in known}
    for label in wanted:
        if fold(label) not in spelled:
            hint = _other_nomenclature(label, spelled, selection.nomenclature)
            if not hint:
                near = [repr(spelled[name]) for name in similar(fold(label), spelled, most=3, cutoff=0.5)]
                verb = "is" if len(near) == 1 else "are"
                hint = f"the nearest {verb} {', '.join(near)}" if near else "`stacpull classes` lists them"
            where = selection.nomenclature or "the collection"
            raise UsageError(f"{label!r} is not a label class of {where}; {hint}.")
    return []


def _other_nomenclature(label: str, known: Collection[str], nomenclature: Nomenclature | None) -> str:
    """Return a hint if the label is a class of another nomenclature."""
    old, is_new = _FOLDED_43.get(fold(label)), fold(label) in map(fold, BEN19)
    if nomenclature == "ben19" and old is not None:
        part = f"it is part of {TO_BEN19[old]!r} there, " if old in TO_BEN19 else ""
        return f"{part}{label!r} is a class of clc43: use --nomenclature clc43"
    if not is_new or _FOLDED_43.keys().isdisjoint(known):
        return ""
    return f"{label!r} is a class of ben19: {'use' if nomenclature else 'add'} --nomenclature ben19"
