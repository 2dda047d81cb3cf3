"""Decodes JSON strictly, and leniently if a source does not write strict JSON.

A decoded value takes up to 165 bytes of memory: 64 MB of `[],` would become 1.4 GB. So the values are counted
before decoding, by their separators (also those inside strings: the count is an upper bound).
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import orjson

from stacpull.json_values import MOST_VALUES, count_values
from stacpull.models import Json

PAGE_LIMIT: Final = 64_000_000
"""The maximum size of a document in bytes, after undoing the content coding."""
LENIENT_LIMIT: Final = 16 * 1024 * 1024
"""The maximum size in bytes of a document that is decoded leniently, which takes about ten times as long."""

_BYTES_PER_VALUE = 32
"""A larger limit allows one value per this many bytes."""
_WEIGHT_OF_VALUE = 128
_LONGEST_INTEGER = 20
"""The most characters of an integer that fits into 64 bits: longer ones are never converted to `int`."""
_CHARSETS = re.compile(
    r"(iso-?8859|windows|cp|utf-16|utf-32|koi8|big5|gb|shift_jis|euc)[-\w]*", re.IGNORECASE
)
"""Charsets whose decoders take linear time."""
_NOT_UTF_8 = re.compile("[\udc80-\udcff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _escaped(found: re.Match[str]) -> str:
    hexadecimal = found[0].encode("utf-8", "surrogateescape").hex(" ").upper()
    return "\\\\x" + hexadecimal.replace(" ", "\\\\x")


class TooManyValuesError(ValueError):
    """A document has too many values to be decoded."""


class Decoded(NamedTuple):
    """A JSON document; `is_strict` is False if it had to be decoded leniently."""

    value: object
    is_strict: bool


def weight_of(size: int, values: int) -> int:
    """Return the estimated memory in bytes of a decoded document of `size` bytes and `values` values."""
    return size + _WEIGHT_OF_VALUE * values


def weight_of_document(document: object) -> int:
    """Return the estimated memory in bytes of a decoded document."""
    try:
        data = orjson.dumps(document)
    except TypeError:  # nested too deeply
        return LENIENT_LIMIT
    return weight_of(len(data), count_values(data))


def lenient_warning(name: str) -> str:
    """Return the warning about the first document of a host or file that is not strict JSON."""
    return (
        f"{name} is not strict JSON, so it is read leniently: NaN and Infinity as null, numbers out of range "
        "as text, invalid Unicode as \\xXX or \\uXXXX. Other documents from there are not named."
    )


def decode(data: bytes, limit: int = PAGE_LIMIT, charset: str | None = None) -> Decoded:
    r"""Decode a JSON document, strictly if possible, else in the `charset` that is stated, else leniently.

    UTF-8 is tried first, because many servers state a wrong charset for it. Lenient decoding replaces `NaN`
    and `Infinity` with null, a number beyond the range of a 64-bit float with its text, a byte that is not
    UTF-8 with `\xXX`, and half of a surrogate pair with `\uXXXX`: different texts stay different.
    """
    most = max(limit // _BYTES_PER_VALUE, MOST_VALUES)
    if len(data) > most and count_values(data) > most:
        raise TooManyValuesError(f"more than {most} values")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return Decoded(orjson.loads(data), is_strict=True)
    except orjson.JSONDecodeError as error:
        if len(data) > LENIENT_LIMIT:
            raise
        strict = error
    if charset is not None and _CHARSETS.fullmatch(charset):
        with suppress(LookupError, ValueError):
            data = data.decode(charset).encode()
            return Decoded(orjson.loads(data), is_strict=True)
    try:
        text = data.decode("utf-8", "surrogateescape")
        text = _NOT_UTF_8.sub(_escaped, text)
        strict_text = json.dumps(_PARSER.decode(text), ensure_ascii=False, allow_nan=False)
        strict_text = _SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):04x}", strict_text)
        return Decoded(orjson.loads(strict_text), is_strict=False)
    except (ValueError, RecursionError):
        raise strict from None


def divided(data: bytes) -> Json | None:
    """Return a FeatureCollection whose features are not decoded (`msgspec.Raw`); None if `data` is none.

    Decoded, they take several times the memory of the text.
    """
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        features = msgspec.json.decode(members.pop("features", b""), type=list[msgspec.Raw])
        return {name: orjson.loads(bytes(text)) for name, text in members.items()} | {"features": features}
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        return None


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _integer(text: str) -> float | str:
    """Return an integer like `orjson` does: exactly if it fits into 64 bits, else as a float."""
    if len(text) <= _LONGEST_INTEGER and -(1 << 63) <= (value := int(text)) < 1 << 64:
        return value
    return _number(text)


_PARSER = json.JSONDecoder(
    parse_int=_integer, parse_float=_number, parse_constant=lambda _: None, strict=False
)
