"""Decodes JSON strictly, and leniently if a source does not write strict JSON.

Python's `json.dumps` writes `NaN` and `Infinity` by default, and half of a surrogate pair as an escape. Other
writers use integers of any length. RFC 8259 forbids these or leaves them to the reader. `decode` reads such a
document anyway and reports the values it replaced, so that one odd value in one item does not end a walk of a
million items.

A decoded value takes up to 165 bytes of memory: 64 MB of `[],` would become 1.4 GB. So the values are counted
before decoding, by their separators. Commas and brackets inside strings are counted, too, so the count is an
upper bound. Counting takes a millisecond per megabyte.

A returned document can be written as strict JSON: finite numbers, valid Unicode, bounded depth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Final

import msgspec
import orjson

from stacpull.json_values import MOST_VALUES, count_values

PAGE_LIMIT: Final = 64_000_000
"""The maximum size of a document in bytes, after undoing the content coding."""

LENIENT_LIMIT: Final = 16 * 1024 * 1024
"""The maximum size in bytes of a document that is decoded leniently, which takes about ten times as long."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BYTES_PER_VALUE = 32
"""A larger limit allows one value per this many bytes."""
_WEIGHT_OF_VALUE = 128
_WEIGHT_OF_UNWRITABLE = 16 * 1024 * 1024
_DEEPEST = 200
"""The most levels of a document that is decoded leniently; `orjson` writes no more than 254."""
_MOST_REPORTED = 1000
"""The most repairs that are reported per document."""
_LONGEST_INTEGER = 20
"""The most characters of an integer that fits into 64 bits: longer ones are never converted to `int`."""
_SHOWN = 60
"""The most characters of an id or a path in a message."""
_NAMED = 10
"""The most items named in one message."""
_MOST_WARNINGS = 50
"""The most documents per run that a warning names: a source may have a million of them."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class Repair(msgspec.Struct, frozen=True):
    """One value that was not strict JSON and was replaced."""

    item: str | None
    """The id of its item; None if it is in a document that is not an item, or in an item without an id."""
    path: str
    """Its path in the item: `properties.eo:cloud_cover`."""
    what: str
    """The original value and its replacement, as the end of a sentence that begins with the path."""


class Decoded(msgspec.Struct, frozen=True):
    """A JSON document."""

    value: object
    """Any JSON value."""
    repairs: tuple[Repair, ...] = ()
    """The replaced values; empty for nearly every document."""

    def warning(self, name: str) -> str | None:
        """Return one sentence that names the repaired items, or None if there are none.

        Args:
            name: The name of the document: its URL, or a line of a file.
        """
        if not self.repairs:
            return None
        first = self.repairs[0]
        problem = f"{first.path or 'it'} {first.what}"
        items = list(dict.fromkeys(_cut(repair.item) for repair in self.repairs if repair.item is not None))
        if not items:
            return f"{name} is not strict JSON: {problem}."
        if len(items) == 1:
            return f"The item {items[0]} of {name} is not strict JSON: {problem}."
        more = len(items) - _NAMED
        shown = ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{len(items)} items of {name} are not strict JSON ({shown}); in the first one, {problem}."


class RepairWarnings:
    """Warns about repaired documents: once about each, up to a maximum number.

    Args:
        warn: Called with each warning, one sentence.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[str] = set()

    def note(self, document: Decoded, name: str) -> None:
        """Warn about `document`, called `name`, if it was repaired."""
        warning = document.warning(name)
        if warning is None or warning in self._warned or len(self._warned) > _MOST_WARNINGS:
            return
        self._warned.add(warning)
        if len(self._warned) > _MOST_WARNINGS:
            warning = "More documents are not strict JSON; their items are no longer named."
        self._warn(warning)


class TooManyValuesError(ValueError):
    """A document has too many values to be decoded."""


def weight_of(size: int, values: int) -> int:
    """Return the estimated memory in bytes of a decoded document of `size` bytes and `values` values."""
    return size + _WEIGHT_OF_VALUE * values


def weight_of_document(document: object) -> int:
    """Return the estimated memory in bytes of a decoded document."""
    try:
        data = orjson.dumps(document)
    except TypeError:  # nested too deeply
        return _WEIGHT_OF_UNWRITABLE
    return weight_of(len(data), count_values(data))


def decode(data: bytes, limit: int = PAGE_LIMIT) -> Decoded:
    """Decode a JSON document, strictly if possible, else leniently.

    A byte order mark at the start is ignored. Lenient decoding replaces `NaN`, `Infinity` and `-Infinity`
    with null; half of a surrogate pair, and bytes that are not UTF-8, with U+FFFD; a number beyond the range
    of a 64-bit float with its text; and a list or object more than 200 levels deep with null. It keeps
    control characters in strings.

    Args:
        data: The text.
        limit: The maximum size of such documents in bytes. It determines the maximum number of values: four
            million, or one per 32 bytes of a limit above 128 MiB.

    Raises:
        TooManyValuesError: It has too many values.
        ValueError: It is not JSON. Or it is not strict JSON, and is larger than `LENIENT_LIMIT` or nested
            thousands of levels deep.
    """
    most = max(limit // _BYTES_PER_VALUE, MOST_VALUES)
    if len(data) > most and count_values(data) > most:
        raise TooManyValuesError(f"more than {most} values")
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return Decoded(orjson.loads(data))
    except orjson.JSONDecodeError as error:
        if len(data) > LENIENT_LIMIT:
            raise
        strict = error
    cleaner = _Cleaner()
    try:
        value = cleaner.clean(_PARSER.decode(data.decode("utf-8", "surrogateescape")))
    except (ValueError, RecursionError):
        raise strict from None
    return Decoded(value, tuple(_repair(value, path, what) for path, what in cleaner.found))


class _OutOfRange(str):
    """The text of a number beyond the range of a 64-bit float."""

    __slots__ = ()


def _number(text: str) -> float | _OutOfRange:
    value = float(text)
    return value if math.isfinite(value) else _OutOfRange(text)


def _integer(text: str) -> float | _OutOfRange:
    """Return an integer like `orjson` does: exactly if it fits into 64 bits, else as a float."""
    if len(text) <= _LONGEST_INTEGER and -(1 << 63) <= (value := int(text)) < 1 << 64:
        return value
    return _number(text)


_PARSER = json.JSONDecoder(parse_int=_integer, parse_float=_number, strict=False)

_PLAIN = frozenset({int, bool, type(None)})
"""Types of values that are never replaced."""

_Path = tuple[str | int, ...]


class _Cleaner:
    """Replaces values of a decoded document that strict JSON cannot represent, and records their paths."""

    def __init__(self) -> None:
        self.found: list[tuple[_Path, str]] = []
        self._path: list[str | int] = []

    def clean(self, value: object) -> object:
        """Return the cleaned value. Lists and dictionaries are changed in place."""
        if isinstance(value, dict):
            for key, member in list(value.items()):
                if (name := self._text(key)) is not key:
                    del value[key]
                value[name] = self._member(name, member)
            return value
        if isinstance(value, list):
            for number, member in enumerate(value):
                if type(member) not in _PLAIN:
                    value[number] = self._member(number, member)
            return value
        if isinstance(value, _OutOfRange):
            self._note(f"is {_cut(value)}, beyond the range of a number, and is read as text")
            return str(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float) and not math.isfinite(value):
            name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            self._note(f"is {name} and is read as null")
            return None
        return value

    def _member(self, key: str | int, member: object) -> object:
        if len(self._path) >= _DEEPEST and isinstance(member, list | dict):
            self._note(f"is more than {_DEEPEST} levels deep and is read as null")
            return None
        self._path.append(key)
        cleaned = self.clean(member)
        self._path.pop()
        return cleaned

    def _text(self, text: str) -> str:
        if text.isascii() or _SURROGATES.search(text) is None:
            return text
        self._note("contains characters that are not valid Unicode, which are replaced by U+FFFD")
        return _SURROGATES.sub("\ufffd", text)

    def _note(self, what: str) -> None:
        if len(self.found) < _MOST_REPORTED:
            self.found.append((tuple(self._path), what))


def _repair(value: object, path: _Path, what: str) -> Repair:
    """Return a repair with the path in the document `value` made relative to its item."""
    item = value
    if isinstance(value, dict) and isinstance(features := value.get("features"), list):
        if path[:1] == ("features",) and len(path) > 1:
            item, path = features[int(path[1])], path[2:]
    elif isinstance(value, list) and path:
        item, path = value[int(path[0])], path[1:]
    name = item.get("id") if isinstance(item, dict) and item.get("type") == "Feature" else None
    where = _cut(".".join(str(step) for step in path))
    return Repair(name if isinstance(name, str) else None, where, what)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
