"""Where the assets of a mirror lie: `--layout`, rendered for one item and then for each of its assets.

What an item gives is filled in once (`Layout.for_item`), what an asset gives for each (`ItemLayout.place`). A
segment is made safe after it is rendered: a slash inside a value never makes a directory. `{filename}` is
known only when the transfer has resolved the href; until then a name is a template of its own, which
`complete` fills in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from stacpull.errors import UsageError
from stacpull.models import ItemId, Json
from stacpull.planning.names import document_name, fold, kept_apart, safe_segment
from stacpull.planning.template import (
    ASSET_FIELDS,
    FIELDS,
    Field,
    Piece,
    Segment,
    escape,
    parse_segment,
    parse_template,
)

__all__ = ["ItemLayout", "Layout", "Place", "complete"]

_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_UNKNOWN: Final = "unknown"
"""What a field says that the item has no value for."""


class Place(NamedTuple):
    """Where an asset goes: a directory relative to DEST, and a name, or the template of a late one."""

    directory: str
    name: str | None
    name_template: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """A parsed `--layout`.

    Attributes:
        template: The layout as given.
        segments: Its parsed segments; the last names the file.
        needs_filename: True if `{filename}` occurs: names are known after the redirect only.
        distinguishes_assets: False if neither `{key}` nor `{filename}` occurs: assets of an item would meet.
    """

    template: str
    segments: tuple[Segment, ...]
    needs_filename: bool
    distinguishes_assets: bool

    @classmethod
    def parse(cls, template: str) -> Layout:
        """Parse a layout.

        Raises:
            UsageError: It cannot be a layout; the message names the place.
        """
        segments = parse_template(template)
        names = {piece.name for segment in segments for piece in segment if isinstance(piece, Field)}
        late = "filename" in names
        return cls(template, segments, needs_filename=late, distinguishes_assets=late or "key" in names)

    @property
    def properties(self) -> tuple[str, ...]:
        """The fields that are properties of items, in their order."""
        pieces = (piece for segment in self.segments for piece in segment)
        names = (piece.name for piece in pieces if isinstance(piece, Field))
        return tuple(dict.fromkeys(name for name in names if name not in FIELDS))

    def check_properties(self, documents: Iterable[Json]) -> None:
        """Check that each property that the layout names is one of the first items of a source.

        Raises:
            UsageError: None of `documents` has it.
        """
        known = {name for document in documents for name in _properties_of(document)}
        for name in self.properties:
            if name not in known:
                near = difflib.get_close_matches(name, [*FIELDS, *known], n=1)
                hint = f"did you mean {{{near[0]}}}?" if near else f"fields are {_listed()}."
                text = f"--layout {self.template!r}: {{{name}}} is not a field, and no property of the items"
                raise UsageError(f"{text}; {hint}")

    def for_item(self, item_id: ItemId, document: Json, parent: ItemId | None = None) -> ItemLayout:
        """Fill in what the item gives. `parent` is the label item through which a source item was reached."""
        values = _ItemValues(item_id, document, parent)
        bound = [_bind(segment, values) for segment in self.segments]
        name = bound.pop()
        directory = "/".join([safe_segment(segment) for segment in bound if isinstance(segment, str)])
        fixed = all(isinstance(segment, str) for segment in bound)
        return ItemLayout(bound, directory if fixed else None, name, self.needs_filename)


class ItemLayout(NamedTuple):
    """A layout of which only what an asset gives is still open; a `str` is a segment without such."""

    directories: list[str | Segment]
    directory: str | None
    """All directories, safe, where no asset changes them."""
    name: str | Segment
    late: bool
    """True if `{filename}` is open."""

    def place(self, key: str, ext: str) -> Place:
        """Return where the asset of this key goes; `ext` with its dot."""
        directory = self.directory
        if directory is None:
            directory = "/".join([safe_segment(_fill(segment, key, ext)) for segment in self.directories])
        if self.late:
            return Place(directory, None, _late(self.name, key, ext))
        return Place(directory, _name_in(directory, _fill(self.name, key, ext)), None)


def complete(name_template: str, filename: str, directory: str) -> str:
    """Return the safe name of an asset whose name had to wait for the resolved URL.

    Args:
        name_template: As in `Place` and `stacpull.models.Asset`.
        filename: Base name of the resolved URL, percent-decoded, unsafe as it came.
        directory: Where the asset goes: in an item's directory, its document's name is reserved.
    """
    if name_template == "{filename}":
        return _name_in(directory, filename)
    pieces = parse_segment(name_template)
    raw = "".join(piece if isinstance(piece, str) else piece.apply(filename) for piece in pieces)
    return _name_in(directory, raw)


class _ItemValues:
    """The values that an item has for the fields of a layout."""

    __slots__ = ("_document", "_id", "_parent")

    def __init__(self, item_id: ItemId, document: Json, parent: ItemId | None) -> None:
        self._id = item_id
        self._document = document
        self._parent = parent

    def __getitem__(self, name: str) -> str:
        match name:
            case "item":
                return self._id.item
            case "collection":
                return self._id.collection
            case "parent":
                return (self._parent or self._id).item
            case "year" | "month" | "day":
                return self._date()[("year", "month", "day").index(name)]
        return _text(self._properties().get(name))

    def _date(self) -> tuple[str, str, str]:
        properties = self._properties()
        found = _DATE.match(_text(properties.get("datetime") or properties.get("start_datetime")))
        return (found[1], found[2], found[3]) if found else (_UNKNOWN, _UNKNOWN, _UNKNOWN)

    def _properties(self) -> dict[str, Any]:
        return _properties_of(self._document)


def _properties_of(document: Json) -> dict[str, Any]:
    properties = document.get("properties")
    return properties if isinstance(properties, dict) else {}


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in FIELDS)


def _text(value: object) -> str:
    """Return a property as text; lists, objects, null and empty text say nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) and value != "" else _UNKNOWN


def _bind(segment: Segment, values: _ItemValues) -> str | Segment:
    """Fill in the item's values; the segment is a `str` when nothing is left open."""
    bound: list[Piece] = []
    left_open = False
    for piece in segment:
        if isinstance(piece, str):
            bound.append(piece)
        elif piece.name in ASSET_FIELDS:
            bound.append(piece)
            left_open = True
        else:
            bound.append(piece.apply(values[piece.name]))
    return tuple(bound) if left_open else "".join(map(str, bound))


def _fill(segment: str | Segment, key: str, ext: str) -> str:
    """Return the raw text of a segment for one asset."""
    if isinstance(segment, str):
        return segment
    text = ""
    for piece in segment:
        text += piece if isinstance(piece, str) else piece.apply(key if piece.name == "key" else ext)
    return text


def _late(segment: str | Segment, key: str, ext: str) -> str:
    """Return the template that is left when only `{filename}` is open."""
    text = ""
    for piece in segment:
        late = isinstance(piece, Field) and piece.name == "filename"
        text += str(piece) if late else escape(_fill((piece,), key, ext))
    return text


def _name_in(directory: str, raw: str) -> str:
    """Return the safe name of a file; the item's document, named like its directory, is never met."""
    name = safe_segment(raw)
    if name[-5:].lower() != ".json":
        return name
    document = document_name(directory.rpartition("/")[2])
    return kept_apart(name, document) if fold(name) == fold(document) else name
