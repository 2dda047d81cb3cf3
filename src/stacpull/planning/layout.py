"""The paths of assets in a mirror: `--layout`, filled in for each item and then for each of its assets.

A template is text with `{field}` and `{field|removeprefix:...}`; `{{` is a brace. It is parsed once into
segments, separated by slashes. A segment is a tuple of pieces: plain text or a `Field`. Fields of the item
are filled in once (`Layout.for_item`), fields of an asset for each asset (`ItemLayout.path`). A segment is
made safe after it is filled in, so a slash in a value never creates a directory. `{filename}` is known only
after the transfer has resolved the href. Until then the name is a template, which `complete` fills in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from stacpull.caches import LONGEST_KEY, Recent, cached_if_short
from stacpull.errors import UsageError
from stacpull.json_values import object_or_empty
from stacpull.models import ItemId, Json
from stacpull.planning.names import document_name, fold, safe_segment, with_salted_hash
from stacpull.spelling import similar

FIELDS: Final = ("collection", "item", "key", "ext", "filename", "parent", "year", "month", "day")
"""The predefined fields; any other field is a property of the item."""

ASSET_FIELDS: Final = frozenset({"key", "ext", "filename"})
"""The fields that differ between the assets of an item."""

_TOKEN: Final = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<text>[^{}/]+)|(?P<slash>/)|(?P<lone>.)"
)
_NAME: Final = re.compile(r"[^\s{}|/]+")
_REMOVE_PREFIX: Final = "removeprefix"
_TOO_NEAR: Final = 0.85
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_UNKNOWN: Final = "unknown"
"""The value of a field that the item does not have."""


class Field(msgspec.Struct, frozen=True):
    """A placeholder for a value, and the prefixes to remove from it in order."""

    name: str
    prefixes: tuple[str, ...] = ()

    def apply(self, value: str) -> str:
        """Return the value without the prefixes."""
        for prefix in self.prefixes:
            value = value.removeprefix(prefix)
        return value

    def __str__(self) -> str:
        if not self.prefixes:
            return f"{{{self.name}}}"
        return "{" + self.name + "".join(f"|{_REMOVE_PREFIX}:{prefix}" for prefix in self.prefixes) + "}"


NamePiece = str | Field
Segment = tuple[NamePiece, ...]


class AssetPath(NamedTuple):
    """The path of an asset: a directory relative to DEST, and a name or a template with `{filename}`."""

    directory: str
    name: str | None
    name_template: str | None


class Layout(msgspec.Struct, frozen=True, eq=False):
    """A parsed `--layout`.

    Attributes:
        template: The layout as text.
        segments: Its parsed segments; the last one is the file name.
        needs_filename: True if it contains `{filename}`: then names are known only after the transfer starts.
        distinguishes_assets: False if it contains neither `{key}` nor `{filename}`: then all assets of an
            item have the same path.
    """

    template: str
    segments: tuple[Segment, ...]
    needs_filename: bool
    distinguishes_assets: bool
    _names: Recent[tuple[str, str], str] | None = None
    """Safe names by key and suffix, if nothing else determines them."""

    @classmethod
    def parse(cls, template: str) -> Layout:
        """Parse a layout.

        Raises:
            UsageError: It is not a valid layout. The message states the position.
        """
        segments = parse_template(template)
        names = {piece.name for segment in segments for piece in segment if isinstance(piece, Field)}
        late = "filename" in names
        last = {piece.name for piece in segments[-1] if isinstance(piece, Field)}
        return cls(
            template,
            segments,
            needs_filename=late,
            distinguishes_assets=late or "key" in names,
            _names=Recent() if last <= {"key", "ext"} else None,
        )

    @property
    def properties(self) -> tuple[str, ...]:
        """The fields that are properties of items, in order."""
        pieces = (piece for segment in self.segments for piece in segment)
        names = (piece.name for piece in pieces if isinstance(piece, Field))
        return tuple(dict.fromkeys(name for name in names if name not in FIELDS))

    def check_properties(self, documents: Iterable[Json]) -> None:
        """Check that each property in the layout exists in at least one of the first items of a source.

        Raises:
            UsageError: None of `documents` has a property.
        """
        known = {name for document in documents for name in object_or_empty(document.get("properties"))}
        for name in self.properties:
            if name not in known:
                near = similar(name, [*FIELDS, *known])
                hint = f"did you mean {{{near[0]}}}?" if near else f"fields are {_listed()}."
                text = (
                    f"--layout {self.template!r}: {{{name}}} is neither a field nor a property of the items"
                )
                raise UsageError(f"{text}; {hint}")

    def for_item(self, item_id: ItemId, document: Json, parent: ItemId | None = None) -> ItemLayout:
        """Fill in the fields of an item. `parent` is the label item that links to a source item."""
        values = _ItemValues(item_id, document, parent)
        bound = [_bind(segment, values) for segment in self.segments]
        name = bound.pop()
        fixed = [segment for segment in bound if isinstance(segment, str)]
        directory = (
            "/".join([safe_segment(segment) for segment in fixed]) if len(fixed) == len(bound) else None
        )
        return ItemLayout(bound, directory, name, self.needs_filename, self._names)


class ItemLayout(msgspec.Struct, frozen=True):
    """A layout in which only fields of assets are not filled in; a `str` is a complete segment."""

    directories: list[str | Segment]
    directory: str | None
    """The safe path of all directories, or None if it contains fields of assets."""
    name: str | Segment
    late: bool
    """True if it contains `{filename}`."""
    names: Recent[tuple[str, str], str] | None

    def path(self, key: str, ext: str) -> AssetPath:
        """Return the path of the asset with this key; `ext` includes its dot."""
        directory = self.directory
        if directory is None:
            directory = "/".join([safe_segment(_fill(segment, key, ext)) for segment in self.directories])
        if self.late:
            return AssetPath(directory, None, _late(self.name, key, ext))
        name = None if self.names is None else self.names.get((key, ext))
        if name is None:
            name = _name_in(directory, _fill(self.name, key, ext))
            if self.names is not None and len(key) <= LONGEST_KEY and not _may_be_document(name):
                self.names[key, ext] = name
        return AssetPath(directory, name, None)


def complete(name_template: str, filename: str, directory: str) -> str:
    """Return the safe name of an asset whose name contains `{filename}`.

    Args:
        name_template: As in `AssetPath` and `stacpull.models.Asset`.
        filename: The last path segment of the resolved URL, percent-decoded but not made safe.
        directory: The directory of the asset. In an item's directory, its document's name is reserved.
    """
    pieces = parse_segment(name_template)
    raw = "".join(piece if isinstance(piece, str) else piece.apply(filename) for piece in pieces)
    return _name_in(directory, raw)


def final_name(name: str | None, name_template: str | None, filename: str, directory: str) -> str:
    """Return the name of a received asset.

    Args:
        name: The planned name; None if it contains `{filename}`.
        name_template: The template for that case; `{filename}` if None.
        filename: As in `complete`.
        directory: As in `complete`.
    """
    return name if name is not None else complete(name_template or "{filename}", filename, directory)


class _ItemValues:
    """The values of an item for the fields of a layout."""

    __slots__ = ("_id", "_parent", "_properties")

    def __init__(self, item_id: ItemId, document: Json, parent: ItemId | None) -> None:
        self._id = item_id
        self._properties = object_or_empty(document.get("properties"))
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
        return _text(self._properties.get(name))

    def _date(self) -> tuple[str, str, str]:
        properties = self._properties
        found = _DATE.match(_text(properties.get("datetime") or properties.get("start_datetime")))
        return (found[1], found[2], found[3]) if found else (_UNKNOWN, _UNKNOWN, _UNKNOWN)


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in FIELDS)


def _text(value: object) -> str:
    """Return a property as text; `unknown` for lists, objects, null and empty strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) and value != "" else _UNKNOWN


def _bind(segment: Segment, values: _ItemValues) -> str | Segment:
    """Fill in the item's values. A complete segment becomes a `str`."""
    bound = tuple(
        piece if isinstance(piece, str) or piece.name in ASSET_FIELDS else piece.apply(values[piece.name])
        for piece in segment
    )
    return bound if any(isinstance(piece, Field) for piece in bound) else "".join(map(str, bound))


def _fill(segment: str | Segment, key: str, ext: str) -> str:
    """Return the raw text of a segment for one asset."""
    if isinstance(segment, str):
        return segment
    text = ""
    for piece in segment:
        text += piece if isinstance(piece, str) else piece.apply(key if piece.name == "key" else ext)
    return text


def _late(segment: str | Segment, key: str, ext: str) -> str:
    """Return the template in which only `{filename}` is not filled in."""
    text = ""
    for piece in segment:
        late = isinstance(piece, Field) and piece.name == "filename"
        text += str(piece) if late else escape(_fill((piece,), key, ext))
    return text


def _name_in(directory: str, raw: str) -> str:
    """Return the safe name of a file, which never equals that of the item's document."""
    name = safe_segment(raw)
    if not _may_be_document(name):
        return name
    document = document_name(directory.rpartition("/")[2])
    return with_salted_hash(name, document) if fold(name) == fold(document) else name


def _may_be_document(name: str) -> bool:
    return name[-5:].casefold() == ".json"  # U+017F is folded to "s"


# Parsing. Errors state the position, counted in characters from 1.


def parse_template(template: str) -> tuple[Segment, ...]:
    """Parse a whole layout.

    Raises:
        UsageError: A field or brace is invalid, a segment is empty or not a valid name, the path is absolute,
            or a directory contains `{filename}`.
    """
    segments: list[list[NamePiece]] = [[]]
    for token in _TOKEN.finditer(template):
        if token["slash"]:
            if not segments[-1]:
                raise _error(template, token.start(), "the path is absolute, or a segment is empty")
            segments.append([])
        else:
            segments[-1].append(_piece(template, token))
    if not segments[-1]:
        raise _error(template, len(template), "the last segment, which is the file name, is empty")
    found = tuple(map(_joined, segments))
    _check(template, found)
    return found


@cached_if_short(1024)
def parse_segment(template: str) -> Segment:
    """Parse one segment, in which slashes are ordinary characters."""
    return _joined(
        [token.group() if token["slash"] else _piece(template, token) for token in _TOKEN.finditer(template)]
    )


def escape(text: str) -> str:
    """Return text as a template that evaluates to it."""
    return text.replace("{", "{{").replace("}", "}}")


def _piece(template: str, token: re.Match[str]) -> NamePiece:
    if token["lone"]:
        raise _error(template, token.start(), f"{token['lone']!r} is unmatched (double it for a literal one)")
    if token["field"] is not None:
        return _field(template, token)
    return token.group()[:1] if token["brace"] else token.group()


def _field(template: str, token: re.Match[str]) -> Field:
    name, *filters = token["field"].split("|")
    if not _NAME.fullmatch(name):
        raise _error(template, token.start(), f"{token.group()} is not a field; fields are {_listed()}")
    near = [] if name in FIELDS else similar(name, FIELDS, cutoff=_TOO_NEAR)
    if near:
        raise _error(template, token.start(), f"{token.group()} is not a field; did you mean {{{near[0]}}}")
    prefixes = []
    for text in filters:
        kind, colon, prefix = text.partition(":")
        if kind != _REMOVE_PREFIX or not colon:
            raise _error(template, token.start(), f"{text!r} is not a filter; use removeprefix:TEXT")
        prefixes.append(prefix)
    return Field(name, tuple(prefixes))


def _check(template: str, segments: tuple[Segment, ...]) -> None:
    """Reject plain segments that are not safe names, and `{filename}` in a directory."""
    for number, segment in enumerate(segments):
        text = "".join(piece for piece in segment if isinstance(piece, str))
        if len(text) and len(segment) == 1 and safe_segment(text) != text:
            raise UsageError(f"--layout {template!r}: {text!r} is not allowed as a name; choose another one.")
        names = {piece.name for piece in segment if isinstance(piece, Field)}
        if number < len(segments) - 1 and "filename" in names:
            raise UsageError(
                f"--layout {template!r}: {{filename}} is not allowed in a directory, only in the file name."
            )


def _joined(pieces: list[NamePiece]) -> Segment:
    """Return the pieces with adjacent texts merged."""
    found: list[NamePiece] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)


def _error(template: str, index: int, what: str) -> UsageError:
    return UsageError(f"--layout {template!r}, at character {index + 1}: {what}.")
