"""The label classes of a collection, and whether the labels asked for are among them.

A misspelled label would match nothing, quietly, after a walk of hours: so it is refused before, with the
names that come nearest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from stacpull.errors import UsageError
from stacpull.filters.bigearthnet import BEN19, CLC43, NOMENCLATURES, TO_BEN19, Nomenclature
from stacpull.filters.labels import fold
from stacpull.models import Json, Selection

__all__ = ["check_labels", "class_list"]

_UNNAMED: Final = "labels"
"""The name of a class list that has none (raster labels need none; plain lists have none)."""

_FLAGS: Final = frozenset({"cloud_and_shadow", "seasonal_snow"})
"""Properties with classes that options of their own ask for (`filters.flags`)."""

_FOLDED_43: Final = {fold(name): name for name in CLC43}
_FOLDED_19: Final = frozenset(map(fold, BEN19))


def class_list(items: Iterable[Json], collection: Json | None) -> dict[str, tuple[str, ...]]:
    """Return the class lists that a collection and its items state: name of the list to class names.

    Read are `label:classes` in items' properties, and `label:classes` and `labels` in the collection's
    summaries: as the label extension has them (a list of `{name, classes}`), or as MLHub did (one such
    object, a list in a list, or plain names).
    """
    found: dict[str, dict[str, None]] = {}
    for name, classes in _stated(items, collection):
        found.setdefault(name, {}).update(dict.fromkeys(classes))
    return {name: tuple(classes) for name, classes in found.items() if classes}


def check_labels(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Check the labels asked for and excluded against the nomenclature, or else the collection's classes.

    Args:
        selection: What the user asked for.
        classes: What `class_list` found; may be empty.

    Returns:
        Warnings, as plain sentences: labels that could not be checked.

    Raises:
        UsageError: A label is in no class list; the message has the nearest names.
    """
    asked = (*selection.labels, *selection.exclude_labels)
    known = _known(selection, classes)
    if not asked:
        return []
    if not known:
        quoted = ", ".join(repr(label) for label in asked)
        return [f"The collection has no list of label classes: {quoted} could not be checked."]
    folded = {fold(name) for name in known}
    for label in asked:
        if fold(label) not in folded:
            raise UsageError(_unknown(label, known, selection.nomenclature))
    return []


def _known(selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the labels that items may have: the classes of the property that labels are read from.

    That is the property that the selection names, else `labels`. Where no list is named so, labels are read
    from `label:overviews`, and every list counts but those of the flags, which are no labels.
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
    """Return the sentence that says what is wrong with a label, and what to write instead."""
    where = nomenclature or "the collection"
    hint = _other_nomenclature(label, known, nomenclature) or _nearest(label, known)
    return f"{label!r} is not a label class of {where}; {hint}."


def _other_nomenclature(label: str, known: tuple[str, ...], nomenclature: Nomenclature | None) -> str:
    """Return a hint if the label is a class of a nomenclature that could be asked for."""
    spelled = _FOLDED_43.get(fold(label))
    if nomenclature == "ben19" and spelled is not None:
        part = f"it is part of {TO_BEN19[spelled]!r} there, " if spelled in TO_BEN19 else ""
        return f"{part}{label!r} is a class of clc43: use --nomenclature clc43"
    if fold(label) not in _FOLDED_19 or _FOLDED_43.keys().isdisjoint(map(fold, known)):
        return ""
    return f"{label!r} is a class of ben19: {'use' if nomenclature else 'add'} --nomenclature ben19"


def _nearest(label: str, known: tuple[str, ...]) -> str:
    spelled = {fold(name): name for name in known}
    near = difflib.get_close_matches(fold(label), spelled, n=3, cutoff=0.5)
    if not near:
        return "`stacpull classes` lists them"
    return "the nearest are " + ", ".join(repr(spelled[name]) for name in near)


def _stated(items: Iterable[Json], collection: Json | None) -> Iterator[tuple[str, list[str]]]:
    """Give every class list that is stated anywhere, as (name, classes)."""
    summaries = _object((collection or {}).get("summaries"))
    yield from _lists(summaries.get("label:classes"))
    yield from _lists(summaries.get("labels"))
    for item in items:
        yield from _lists(_object(item.get("properties")).get("label:classes"))


def _lists(value: object) -> Iterator[tuple[str, list[str]]]:
    for member in _members(value):
        if isinstance(member, dict):
            classes = _members(member.get("classes"))
            yield str(member.get("name") or _UNNAMED), [str(name) for name in classes if _is_name(name)]
        elif _is_name(member):
            yield _UNNAMED, [str(member)]


def _members(value: object) -> Iterator[object]:
    """Give what a list holds, and what lists directly in it hold; of anything else the value itself."""
    for member in value if isinstance(value, list) else [value]:
        yield from member if isinstance(member, list) else [member]


def _is_name(value: object) -> bool:
    return isinstance(value, str | int | float)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
