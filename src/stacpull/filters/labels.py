"""Land-cover labels: their filter, the label classes of a collection, and the nomenclatures of BigEarthNet.

Labels are read from `properties.labels` (a list or a string), else from `label:overviews` (names with a count
above zero), or only from the property of `--label-property`. Case and surrounding space are ignored. A
misspelt label would match nothing after hours of walking, so it is rejected before, with the nearest names.

The names and order of the 43 classes are those of the CORINE Land Cover nomenclature (level 3) in BigEarthNet
v1. The 19 classes are those of Sumbul et al., "BigEarthNet-MM", IEEE GRSM 2021, table 2 (also in TorchGeo's
dataset). Classes are mapped by name, because some tools list the 43 alphabetically.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, Self

from stacpull.caches import cached_if_short
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut, left_out
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


_FOLDED_TO_19: Final = {fold(old): fold(new) for old, new in TO_BEN19.items()} | {
    fold(name): fold(name) for name in BEN19
}


def item_labels(properties: dict[str, Any], label_property: str | None = None) -> list[str]:
    """Return the labels of an item, unchanged.

    Args:
        properties: The item's `properties`.
        label_property: The only property to read, instead of `labels` and `label:overviews`.
    """
    if label_property is not None:
        return _names(properties.get(label_property))
    labels = properties.get("labels")
    return _names(labels) if labels is not None else _counted(properties.get("label:overviews"))


class LabelCheck(ItemCheck):
    """`--label`, `--exclude-label` and `--nomenclature`."""

    fields = ("labels", "label_mode", "exclude_labels", "label_property", "nomenclature")

    def __init__(self, selection: Selection) -> None:
        self._wanted = frozenset(map(fold, selection.labels))
        self._excluded = frozenset(map(fold, selection.exclude_labels))
        self._needs_all = selection.label_mode == "all"
        self._property = selection.label_property
        self._nomenclature = selection.nomenclature

    @classmethod
    def of(cls, selection: Selection) -> Self | None:
        """Compile the filter of a selection, or return None if it has none."""
        is_needed = selection.labels or selection.exclude_labels or selection.nomenclature == "ben19"
        return cls(selection) if is_needed else None

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        """Return why the labels of an item do not match."""
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

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        """Return a message about items without labels of the nomenclature."""
        why = f"they have no label in {self._nomenclature}."
        return left_out(counts, NO_LABEL_IN_NOMENCLATURE, why)

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


def _names(value: object) -> list[str]:
    """Return the labels in a property: the members of a list that are not null, or the single value."""
    if isinstance(value, list):
        return [label if isinstance(label, str) else str(label) for label in value if label is not None]
    return [] if value is None else [str(value)]


def _counted(overviews: object) -> list[str]:
    """Return the class names with a count above zero in any `label:overviews` (STAC label extension 1.0)."""
    counts = (count for overview in objects_in(overviews) for count in objects_in(overview.get("counts")))
    named = (count for count in counts if count.get("name") is not None)
    return [str(count["name"]) for count in named if _is_positive(count.get("count"))]


def _is_positive(count: object) -> bool:
    return isinstance(count, int | float) and count > 0


_UNNAMED: Final = "labels"
"""The name for a class list without one (raster labels do not need one, plain lists do not have one)."""

_FLAGS: Final = frozenset({"cloud_and_shadow", "seasonal_snow"})
"""Properties with classes that have their own options (`filters.properties`)."""

_FOLDED_43: Final = {fold(name): name for name in CLC43}
_FOLDED_19: Final = frozenset(map(fold, BEN19))


def class_list(items: Iterable[Json], collection: Json | None) -> dict[str, tuple[str, ...]]:
    """Return the class lists of a collection and its items: class names by the name of the list.

    They are `label:classes` in the properties of items, and `label:classes` and `labels` in the summaries of
    the collection. They have the form of the label extension (a list of `{name, classes}`) or of MLHub (one
    such object, a list in a list, or plain names).
    """
    found: dict[str, dict[str, None]] = {}
    for name, classes in _stated(items, collection):
        found.setdefault(name, {}).update(dict.fromkeys(classes))
    return {name: tuple(classes) for name, classes in found.items() if classes}


def check_labels(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Check the labels of a selection against the nomenclature, or else the collection's classes.

    Args:
        selection: The selection.
        classes: The result of `class_list`, which may be empty.

    Returns:
        Warnings about labels that could not be checked.

    Raises:
        UsageError: A label is in no class list. The message contains the nearest ones.
    """
    wanted = (*selection.labels, *selection.exclude_labels)
    known = _known(selection, classes)
    if not wanted:
        return []
    if not known:
        quoted = ", ".join(repr(label) for label in wanted)
        return [f"The collection has no list of label classes: {quoted} could not be checked."]
    folded = {fold(name) for name in known}
    for label in wanted:
        if fold(label) not in folded:
            raise UsageError(_unknown(label, known, selection.nomenclature))
    return []


def _known(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the labels that items may have: the classes of the property that contains the labels.

    That is the label property of the selection, else `labels`. If no class list has this name, the labels are
    in `label:overviews`, and all class lists count except those of the flags.
    """
    if selection.nomenclature is not None:
        return NOMENCLATURES[selection.nomenclature]
    if selection.label_property is not None:
        return classes.get(selection.label_property, ())
    if _UNNAMED in classes:
        return classes[_UNNAMED]
    lists = [names for property_name, names in classes.items() if property_name not in _FLAGS]
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _unknown(label: str, known: tuple[str, ...], nomenclature: Nomenclature | None) -> str:
    """Return the message about a label that does not exist, with advice."""
    where = nomenclature or "the collection"
    hint = _other_nomenclature(label, known, nomenclature) or _nearest(label, known)
    return f"{label!r} is not a label class of {where}; {hint}."


def _other_nomenclature(label: str, known: tuple[str, ...], nomenclature: Nomenclature | None) -> str:
    """Return a hint if the label is a class of another nomenclature."""
    spelled = _FOLDED_43.get(fold(label))
    if nomenclature == "ben19" and spelled is not None:
        part = f"it is part of {TO_BEN19[spelled]!r} there, " if spelled in TO_BEN19 else ""
        return f"{part}{label!r} is a class of clc43: use --nomenclature clc43"
    if fold(label) not in _FOLDED_19 or _FOLDED_43.keys().isdisjoint(map(fold, known)):
        return ""
    return f"{label!r} is a class of ben19: {'use' if nomenclature else 'add'} --nomenclature ben19"


def _nearest(label: str, known: tuple[str, ...]) -> str:
    spelled = {fold(name): name for name in known}
    near = similar(fold(label), spelled, most=3, cutoff=0.5)
    if not near:
        return "`stacpull classes` lists them"
    verb = "is" if len(near) == 1 else "are"
    return f"the nearest {verb} " + ", ".join(repr(spelled[name]) for name in near)


def _stated(items: Iterable[Json], collection: Json | None) -> Iterator[tuple[str, list[str]]]:
    """Yield every class list as (name, classes)."""
    summaries = object_or_empty((collection or {}).get("summaries"))
    yield from _lists(summaries.get("label:classes"))
    yield from _lists(summaries.get("labels"))
    for item in items:
        yield from _lists(object_or_empty(item.get("properties")).get("label:classes"))


def _lists(value: object) -> Iterator[tuple[str, list[str]]]:
    for member in _members(value):
        if isinstance(member, dict):
            classes = _members(member.get("classes"))
            yield str(member.get("name") or _UNNAMED), [str(name) for name in classes if _is_name(name)]
        elif _is_name(member):
            yield _UNNAMED, [str(member)]


def _members(value: object) -> Iterator[object]:
    """Yield the members of a list and of lists directly in it, or the value itself if it is not a list."""
    for member in value if isinstance(value, list) else [value]:
        yield from member if isinstance(member, list) else [member]


def _is_name(value: object) -> bool:
    return isinstance(value, str | int | float)
