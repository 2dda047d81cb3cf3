"""Land-cover labels: their filter, the label classes of a collection, and the nomenclatures of BigEarthNet.

A misspelt label would match nothing after hours of walking, so it is rejected before the walk. The 43 classes
of BigEarthNet v1 are those of CORINE Land Cover, level 3; the 19 are from Sumbul et al., "BigEarthNet-MM",
IEEE GRSM 2021, table 2. Classes are mapped by name, because some tools list the 43 alphabetically.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self
from unicodedata import normalize

import orjson

from stacpull.errors import UsageError, similar
from stacpull.filters.item_filters import ItemFilter
from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Json
from stacpull.selection import Selection

_CLASSES_FILE: Final = Path(__file__).with_name("corine.json")
_CLASSES: Final[dict[str, str | None]] = orjson.loads(_CLASSES_FILE.read_bytes())
"""The 43 level-3 names in CORINE's index order, each with its class of the 19, which 11 of them lack."""

CLC43: Final = tuple(_CLASSES)
BEN19: Final = tuple(filter(None, dict.fromkeys(_CLASSES.values())))
_UNNAMED: Final = "labels"  # of a class list without a name: raster labels and plain lists need none
_FLAGS: Final = frozenset({"cloud_and_shadow", "seasonal_snow"})  # properties with options of their own
NOMENCLATURES: Final[dict[str, tuple[str, ...]]] = {"clc43": CLC43, "ben19": BEN19}


def fold_label(name: str) -> str:
    return normalize("NFC", normalize("NFD", name.strip()).casefold())


_TO_BEN19: Final = _CLASSES | {name: name for name in BEN19}
FOLDED_TO_BEN19: Final = {
    fold_label(name): fold_label(new) for name, new in _TO_BEN19.items() if new is not None
}


def item_labels(properties: Json, label_property: str | None = None) -> list[str]:
    value = properties.get(label_property or "labels")
    if value is None and label_property is None:
        value = []
        for overview in objects_in(properties.get("label:overviews")):
            for entry in objects_in(overview.get("counts")):
                count = entry.get("count")
                if isinstance(count, int | float) and count > 0:
                    value.append(entry.get("name"))
    texts = [str(name) for name in _as_list(value) if name is not None]
    return [text for text in texts if text.strip()]


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


class LabelFilter(ItemFilter):
    fields = ("labels", "exclude_labels", "nomenclature")
    warned_reason = "no label in nomenclature"
    warning = "they have no label in ben19."

    def __init__(self, selection: Selection) -> None:
        self._wanted = frozenset(map(fold_label, selection.labels))
        self._excluded = frozenset(map(fold_label, selection.exclude_labels))
        self._needs_all = selection.label_mode == "all"
        self._selection = selection

    @classmethod
    def from_selection(cls, selection: Selection) -> Self | None:
        is_needed = selection.labels or selection.exclude_labels or selection.nomenclature == "ben19"
        return cls(selection) if is_needed else None

    def __call__(self, _item: Json, properties: Json) -> str | None:
        labels = {fold_label(label) for label in item_labels(properties, self._selection.label_property)}
        if self._selection.nomenclature == "ben19":
            labels = {FOLDED_TO_BEN19[label] for label in labels if label in FOLDED_TO_BEN19}
            if not labels:
                return self.warned_reason
        missing = self._wanted - labels
        if missing and (self._needs_all or missing == self._wanted):
            return "label"
        return None if labels.isdisjoint(self._excluded) else "excluded label"


def class_lists(items: Iterable[Json], collection: Json | None) -> dict[str, tuple[str, ...]]:
    """Return the class lists of a collection and its items: class names by the name of the list."""
    collection = collection or {}
    summaries = object_or_empty(collection.get("summaries"))
    sources = [collection.get("label:classes"), summaries.get("label:classes"), summaries.get("labels")]
    sources += [object_or_empty(item.get("properties")).get("label:classes") for item in items]
    lists: dict[str, dict[str, None]] = {}
    for source in sources:
        # a list of `{name, classes}`; at MLHub also one such object, a list in a list, or names
        for member in _members(source):
            named = member if isinstance(member, dict) else {"classes": [member]}
            name = str(named.get("name") or _UNNAMED)
            for text in _members(named.get("classes")):
                if isinstance(text, str | int | float) and str(text).strip():
                    lists.setdefault(name, {})[str(text)] = None
    return {name: tuple(classes) for name, classes in lists.items()}


def _members(value: object) -> list[object]:
    return [part for member in _as_list(value) for part in _as_list(member)]


def check_labels(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> list[str]:
    wanted = (*selection.labels, *selection.exclude_labels)
    if selection.nomenclature is not None:
        known = NOMENCLATURES[selection.nomenclature]
    elif selection.label_property is not None or _UNNAMED in classes:
        known = classes.get(selection.label_property or _UNNAMED, ())
    else:  # the labels are in `label:overviews`
        known = sum([names for title, names in classes.items() if title not in _FLAGS], ())
    if wanted and not known:
        quoted = ", ".join(repr(label) for label in wanted)
        return [f"The collection has no list of label classes: {quoted} could not be checked."]
    spelled = {fold_label(name): name for name in known}
    for label in wanted:
        if fold_label(label) not in spelled:
            where = selection.nomenclature or "the collection"
            hint = _hint(fold_label(label), spelled, selection.nomenclature)
            raise UsageError(f"{label!r} is not a label class of {where}; {hint}.")
    return []


def _hint(label: str, spelled: Mapping[str, str], nomenclature: str | None) -> str:
    is_corine = nomenclature is not None or not spelled.keys().isdisjoint(map(fold_label, CLC43))
    for other, names in NOMENCLATURES.items():
        if is_corine and other != nomenclature and label in map(fold_label, names):
            wider = spelled.get(FOLDED_TO_BEN19.get(label, ""))
            return f"it is a class of {other}: use {f'{wider!r}, or ' if wider else ''}--nomenclature {other}"
    near = similar(label, spelled, limit=3, cutoff=0.5)
    if near:
        return f"nearest: {', '.join(repr(spelled[name]) for name in near)}"
    if nomenclature is not None:
        return f"it has {', '.join(map(repr, NOMENCLATURES[nomenclature]))}"
    return "`stacpull classes` lists them"
