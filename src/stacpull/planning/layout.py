"""The paths of assets in a mirror: `--layout`, filled in for each item and then for each of its assets.

A segment is made safe after it is filled in, so a slash in a value never creates a directory. `{filename}` is
known only after the transfer has resolved the href (`final_name`). The ledger adds a hash to a name that
another asset has (`ledger.paths.claim`), and to a directory with the path of a file (`add_directory`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, Self

import msgspec

from stacpull.caches import cached_if_short
from stacpull.errors import UsageError, did_you_mean
from stacpull.json_values import object_or_empty
from stacpull.models import ItemId, Json, path_in_dest
from stacpull.planning.names import fold, json_name, safe_segment, with_salted_hash

FIELDS: Final = ("collection", "item", "key", "ext", "filename", "parent", "year", "month", "day")
"""The predefined fields; any other field is a property of the item."""
_ASSET_FIELDS: Final = frozenset({"key", "ext", "filename"})
_TOKENS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|/)")
_NAME: Final = re.compile(r"[^\s{}|/]+")
_REMOVE_PREFIX: Final = "removeprefix:"
_DATE: Final = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)")
_UNKNOWN: Final = "unknown"
_KNOWN: Final = ", ".join(f"{{{name}}}" for name in FIELDS)


class Field(NamedTuple):
    name: str
    prefixes: tuple[str, ...] = ()

    def apply(self, value: str) -> str:
        for prefix in self.prefixes:
            value = value.removeprefix(prefix)
        return value

    def __str__(self) -> str:
        filters = [f"|{_REMOVE_PREFIX}{prefix}" for prefix in self.prefixes]
        return "{" + self.name + "".join(filters) + "}"


Segment = Sequence[str | Field]


class Layout(msgspec.Struct, frozen=True, eq=False):
    template: str
    segments: tuple[Segment, ...]  # the last one is the file name
    needs_filename: bool  # it contains `{filename}`: names are known only after the transfer starts

    @classmethod
    def parse(cls, template: str) -> Self:
        segments = tuple(_parse(template, separates=True))
        for segment in segments:
            match segment:
                case [str(text)] if safe_segment(text) != text:
                    raise _error(template, f"{text!r} is not allowed as a name; choose another one")
        *directories, last = map(_fields_in, segments)
        if not any([last, *directories]):
            raise _error(template, "it has no field, such as {item}, so all assets would get one path")
        if any("filename" in names for names in directories):
            raise _error(template, "{filename} is not allowed in a directory, only in the file name")
        return cls(template, segments, "filename" in last)

    @property
    def properties(self) -> tuple[str, ...]:
        names = chain.from_iterable(map(_fields_in, self.segments))
        return tuple(name for name in dict.fromkeys(names) if name not in FIELDS)

    def unknown_properties(self, documents: Iterable[Json]) -> Iterator[str]:
        all_properties = (object_or_empty(document.get("properties")) for document in documents)
        known = set(chain.from_iterable(all_properties))
        for name in self.properties:
            if known and name not in known:
                fields = f"; fields are {_KNOWN}."
                hint = did_you_mean(name, [*FIELDS, *known], written="{{{}}}", otherwise=fields)
                text = f"{{{name}}} is neither a field nor a property of the first items"
                yield f"--layout {self.template!r}: {text}{hint}"

    def for_item(self, item_id: ItemId, document: Json, parent: ItemId | None) -> "ItemLayout":
        properties = object_or_empty(document.get("properties"))

        def filled(piece: str | Field) -> str | Field:
            if isinstance(piece, str) or piece.name in _ASSET_FIELDS:
                return piece
            return piece.apply(_value(piece.name, item_id, properties, parent))

        *directories, name = [[*map(filled, segment)] for segment in self.segments]
        directory = None
        if not any(map(_fields_in, directories)):
            directory = safe_subdirectory("", [_fill(segment, {}) for segment in directories])
        return ItemLayout(directories, directory, name, self.needs_filename)


def _fields_in(segment: Segment) -> list[str]:
    return [piece.name for piece in segment if isinstance(piece, Field)]


def _value(name: str, item_id: ItemId, properties: Json, parent: ItemId | None) -> str:
    match name:
        case "item":
            return item_id.item
        case "collection":
            return item_id.collection
        case "parent":
            return (parent or item_id).item
        case "year" | "month" | "day":
            instant = properties.get("datetime") or properties.get("start_datetime")
            date = _DATE.match(str(instant))
            return date[name] if date else _UNKNOWN
    value = properties.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    is_filled = isinstance(value, str | int | float) and value != ""
    return str(value) if is_filled else _UNKNOWN


class ItemLayout(msgspec.Struct, frozen=True):
    directories: Sequence[Segment]
    directory: str | None  # the safe path of all directories; None if it contains fields of assets
    name: Segment
    needs_filename: bool

    def path(self, key: str, ext: str) -> tuple[str, str | None, str | None]:
        """Return the directory of an asset, and its name, or the template of a name that is not known yet."""
        values = {"key": key, "ext": ext}
        directory = self.directory
        if directory is None:
            directory = safe_subdirectory("", [_fill(segment, values) for segment in self.directories])
        if not self.needs_filename:
            return directory, name_in(directory, _fill(self.name, values)), None
        template = ""
        for piece in self.name:
            if isinstance(piece, Field) and piece.name == "filename":
                template += str(piece)
            else:
                template += _fill([piece], values).replace("{", "{{").replace("}", "}}")
        return directory, None, template


def _fill(segment: Segment, values: Mapping[str, str]) -> str:
    texts = [piece if isinstance(piece, str) else piece.apply(values[piece.name]) for piece in segment]
    return "".join(texts)


@cached_if_short(1024)
def _name_pieces(name_template: str) -> Segment:
    return _parse(name_template, separates=False)[0]


def final_name(name: str | None, name_template: str | None, filename: str, directory: str) -> str:
    """Return a safe name. `filename` is the last segment of the resolved URL, percent-decoded but unsafe."""
    if name is not None:
        return name
    return name_in(directory, _fill(_name_pieces(name_template or "{filename}"), {"filename": filename}))


def safe_subdirectory(directory: str, names: Iterable[str]) -> str:
    for name in names:
        directory = path_in_dest(directory, name_in(directory, name))
    return directory


def name_in(directory: str, raw: str) -> str:
    """Return the safe name of a file or directory. It never equals the name of an item's JSON there."""
    name = safe_segment(raw)
    if name[-5:].casefold() != ".json":  # U+017F is folded to "s"
        return name
    item_json = json_name(directory.rpartition("/")[2])
    return with_salted_hash(name, item_json) if fold(name) == fold(item_json) else name


def _parse(template: str, *, separates: bool) -> list[Segment]:
    segments: list[list[str | Field]] = [[]]
    for part in _TOKENS.split(template):
        piece: str | Field = part
        if part == "/" and separates:
            segments.append([])
            continue
        if part in ("{{", "}}"):
            piece = part[0]
        elif part.startswith("{") and part.endswith("}"):
            piece = _parse_field(template, part)
        elif "{" in part or "}" in part:
            raise _error(template, "a brace is unmatched (double it for a literal one)")
        segment = segments[-1]
        if isinstance(piece, str) and segment and isinstance(segment[-1], str):
            segment[-1] += piece
        elif piece:
            segment.append(piece)
    if separates and not all(segments):
        raise _error(template, "the path is absolute, or a segment is empty")
    return list(segments)


def _parse_field(template: str, part: str) -> Field:
    name, *filters = part[1:-1].split("|")
    if not _NAME.fullmatch(name):
        raise _error(template, f"{part} is not a field; fields are {_KNOWN}")
    prefixes = []
    for text in filters:
        if not text.startswith(_REMOVE_PREFIX):
            raise _error(template, f"{text!r} is not a filter; use removeprefix:TEXT")
        prefixes.append(text.removeprefix(_REMOVE_PREFIX))
    return Field(name, tuple(prefixes))


def _error(template: str, what: str) -> UsageError:
    return UsageError(f"--layout {template!r}: {what}.")
