"""Decodes JSON: strictly, and leniently where a source writes JSON that is not strict.

Python's `json.dumps` writes `NaN` and `Infinity` by default, and half a surrogate pair as an escape; other
writers put integers of any length. RFC 8259 does not allow these, or leaves them to the reader. `decode`
reads such a document all the same and reports what it replaced, so that one odd value in one item does not
end a walk of a million items.

A decoded value takes up to 165 bytes, whatever it took on the wire: 64 MiB of `[],` would become 1.5 GB. So
values are counted before anything is decoded, by what separates them. Commas and brackets inside of strings
are counted as well: the count is an upper bound, which costs a millisecond per megabyte.

What is returned can be written as strict JSON: finite numbers, valid Unicode, bounded depth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple

import orjson

PAGE_LIMIT: Final = 64 * 1024 * 1024
"""The most bytes of JSON, decoded, that are read as one document."""

LENIENT_LIMIT: Final = 16 * 1024 * 1024
"""The largest document, in bytes, that is decoded leniently: that takes some ten times as long."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_VALUES_ALLOWED = 4_000_000
"""Values that a document of any size may have. Recorded items have one per 11 to 26 bytes."""
_BYTES_PER_VALUE = 32
"""A larger limit allows more values: one per this many bytes."""
_WEIGHT_OF_VALUE = 128
_WEIGHT_OF_UNWRITABLE = 16 * 1024 * 1024
_DEEPEST = 200
"""Levels of a document that are kept when it is decoded leniently; `orjson` writes no more than 254."""
_MOST_REPORTED = 1000
"""Repairs of one document that are reported."""
_LONGEST_INTEGER = 20
"""Characters of an integer that may fit into 64 bits: longer ones are never converted to `int`."""
_SHOWN = 60
"""Characters of an id or a path that a message shows."""
_NAMED = 10
"""Items that one message names."""
_MOST_WARNINGS = 50
"""Documents whose items are named in a run: a source may have a million of them."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class Repair(NamedTuple):
    """One value that was not strict JSON and was replaced."""

    item: str | None
    """The id of its item; None if it is in a document that is not an item, or in an item without an id."""
    path: str
    """Where it is in the item: `properties.eo:cloud_cover`."""
    what: str
    """What it was and what it is read as; completes a sentence that begins with the path."""


class Decoded(NamedTuple):
    """A JSON document."""

    value: object
    """Any JSON value."""
    repairs: tuple[Repair, ...] = ()
    """The values that were not strict JSON; empty for nearly every document."""

    def warning(self, name: str) -> str | None:
        """Return one sentence that names the items that were repaired; None if there are none.

        Args:
            name: What to call the document: its URL, or a line of a file.
        """
        if not self.repairs:
            return None
        first = self.repairs[0]
        said = f"{first.path or 'it'} {first.what}"
        items = list(dict.fromkeys(_cut(one.item) for one in self.repairs if one.item is not None))
        if not items:
            return f"{name} is not strict JSON: {said}."
        if len(items) == 1:
            return f"The item {items[0]} of {name} is not strict JSON: {said}."
        more = len(items) - _NAMED
        shown = ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{len(items)} items of {name} are not strict JSON ({shown}); in the first one, {said}."


class RepairWarnings:
    """Warns of documents that were repaired: once of each, and of a bounded number of them.

    Args:
        tell: Called with each warning, one sentence.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._warned: set[str] = set()

    def note(self, document: Decoded, name: str) -> None:
        """Warn of `document`, called `name`, if it was repaired."""
        warning = document.warning(name)
        if warning is None or warning in self._warned or len(self._warned) > _MOST_WARNINGS:
            return
        self._warned.add(warning)
        if len(self._warned) > _MOST_WARNINGS:
            warning = "More documents are not strict JSON; their items are no longer named."
        self._tell(warning)


class TooManyValuesError(ValueError):
    """A document has more values than are decoded."""


def count_values(data: bytes) -> int:
    """Return at least the number of values in a JSON text, without decoding it."""
    return data.count(b",") + data.count(b"[") + data.count(b"{") + 1


def weight_of(size: int, values: int) -> int:
    """Return about how much memory a decoded document takes that had `size` bytes and `values` values."""
    return size + _WEIGHT_OF_VALUE * values


def weight_of_document(document: object) -> int:
    """Return about how many bytes of memory a decoded document takes."""
    try:
        data = orjson.dumps(document)
    except TypeError:  # nested too deeply
        return _WEIGHT_OF_UNWRITABLE
    return weight_of(len(data), count_values(data))


def decode(data: bytes, limit: int = PAGE_LIMIT) -> Decoded:
    """Return the JSON document `data`, read strictly if possible, else leniently.

    A byte order mark at the start is ignored. Leniently, `NaN`, `Infinity` and `-Infinity` become null;
    half a surrogate pair, and bytes that are not UTF-8, become U+FFFD; a number beyond the range of a 64-bit
    float becomes its own text; a list or object more than 200 levels deep becomes null; control characters in
    a text are kept.

    Args:
        data: The text.
        limit: The most bytes that it may have had. It may have four million values; more if the limit is
            above 128 MiB: one per 32 bytes of it.

    Raises:
        TooManyValuesError: It has more values than that.
        ValueError: It is not JSON. Or it is not strict JSON, and is larger than `LENIENT_LIMIT` or nested
            some thousand levels deep.
    """
    most = max(limit // _BYTES_PER_VALUE, _VALUES_ALLOWED)
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


class _Unheld(str):
    """The text of a number that a 64-bit float does not hold."""

    __slots__ = ()


def _number(text: str) -> float | _Unheld:
    value = float(text)
    return value if math.isfinite(value) else _Unheld(text)


def _integer(text: str) -> float | _Unheld:
    """Return an integer as `orjson` does: exactly if it fits into 64 bits, else as a float."""
    if len(text) <= _LONGEST_INTEGER and -(1 << 63) <= (value := int(text)) < 1 << 64:
        return value
    return _number(text)


_PARSER = json.JSONDecoder(parse_int=_integer, parse_float=_number, strict=False)

_PLAIN = frozenset({int, bool, type(None)})
"""Types of values that are never replaced."""

_Path = tuple[str | int, ...]


class _Cleaner:
    """Replaces the values of a decoded document that strict JSON cannot hold, and notes where they were."""

    def __init__(self) -> None:
        self.found: list[tuple[_Path, str]] = []
        self._path: list[str | int] = []

    def clean(self, value: object) -> object:
        """Return `value`, cleaned; lists and dictionaries are changed in place."""
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
        if isinstance(value, _Unheld):
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
        self._note("holds characters that are not valid Unicode, which are replaced by U+FFFD")
        return _SURROGATES.sub("\ufffd", text)

    def _note(self, what: str) -> None:
        if len(self.found) < _MOST_REPORTED:
            self.found.append((tuple(self._path), what))


def _repair(value: object, path: _Path, what: str) -> Repair:
    """Return a repair of the document `value`, seen from the item that it is in."""
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
