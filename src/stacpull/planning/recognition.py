"""Recognises the `--layout` of a tree by the paths of some assets.

Each path segment is compared with the values of layout fields. The simplest field that matches all samples is
used. A file name that matches no field is assumed to be `{filename}`, from a URL that is no longer known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from stacpull.json_values import object_or_empty
from stacpull.models import ItemId, Json
from stacpull.planning.kinds import suffix_of
from stacpull.planning.layout import Layout, escape
from stacpull.planning.names import safe_segment

_DIRECTORIES: Final = ("collection", "item", "parent", "year", "month", "day")
_NAMES: Final = ("{key}{ext}", "{item}_{key}{ext}", "{parent}_{key}{ext}", "{key}")
_LATE: Final = "{filename}"


class Sample(NamedTuple):
    """An asset, its item (with the label item that led to it), and its path relative to DEST."""

    item: ItemId
    document: Json
    parent: ItemId | None
    key: str
    origin: str
    media_type: str | None
    path: str


def recognised(samples: Sequence[Sample]) -> str | None:
    """Return a layout that gives every sample its path, or None if there is no such layout or no sample."""
    paths = [sample.path.split("/") for sample in samples]
    if not samples or len({len(path) for path in paths}) != 1:
        return None
    segments = []
    for number in range(len(paths[0]) - 1):
        found = _directory(samples, [path[number] for path in paths])
        if found is None:
            return None
        segments.append(found)
    return "/".join([*segments, _name(samples, [path[-1] for path in paths])])


def _directory(samples: Sequence[Sample], names: Sequence[str]) -> str | None:
    """Return the template of one directory."""
    for field in (*_DIRECTORIES, *_shared_properties(samples)):
        layout = Layout.parse(f"{{{field}}}/{{key}}")
        if all(_rendered(layout, one)[0] == name for one, name in zip(samples, names, strict=True)):
            return f"{{{field}}}"
    return escape(names[0]) if len(set(names)) == 1 and safe_segment(names[0]) == names[0] else None


def _name(samples: Sequence[Sample], names: Sequence[str]) -> str:
    for template in _NAMES:
        layout = Layout.parse(template)
        if all(_rendered(layout, one)[1] == name for one, name in zip(samples, names, strict=True)):
            return template
    return _LATE


def _rendered(layout: Layout, sample: Sample) -> tuple[str, str | None]:
    filled = layout.for_item(sample.item, sample.document, sample.parent)
    path = filled.path(sample.key, suffix_of(sample.origin, sample.media_type))
    return path.directory, path.name


def _shared_properties(samples: Iterable[Sample]) -> list[str]:
    """Return the properties of all samples that a layout could use for directories."""
    shared: set[str] | None = None
    for sample in samples:
        names = set(filter(_is_field, object_or_empty(sample.document.get("properties"))))
        shared = names if shared is None else shared & names
    return sorted(shared or ())


def _is_field(name: str) -> bool:
    """Return whether a layout can use this property."""
    return not set(name) & set("{}|/ ") and name not in (*_DIRECTORIES, "key", "ext", "filename")
