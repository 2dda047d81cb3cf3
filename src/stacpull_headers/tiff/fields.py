"""Fields of a directory: their types, where their values lie, and the values.

TIFF 6.0, section 2; the types 16 to 18 of BigTIFF as libtiff defines them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from stacpull_headers.tiff.segments import TiffError
from stacpull_headers.tiff.tags import label

_RATIONAL, _SIGNED_RATIONAL = 5, 10

CODES = {
    1: "B",  # BYTE
    2: "c",  # ASCII
    3: "H",  # SHORT
    4: "I",  # LONG
    _RATIONAL: "II",
    6: "b",  # SBYTE
    7: "c",  # UNDEFINED
    8: "h",  # SSHORT
    9: "i",  # SLONG
    _SIGNED_RATIONAL: "ii",
    11: "f",  # FLOAT
    12: "d",  # DOUBLE
    13: "I",  # IFD
    16: "Q",  # LONG8
    17: "q",  # SLONG8
    18: "Q",  # IFD8
}
"""Each type as the `struct` module writes it."""

SIZES = {kind: struct.calcsize("<" + code) for kind, code in CODES.items()}
"""Bytes of one value of each type."""

_INTEGERS = frozenset({1, 3, 4, 6, 8, 9, 13, 16, 17, 18})
_NUMBERS = _INTEGERS | {_RATIONAL, _SIGNED_RATIONAL, 11, 12}
_BYTES = frozenset({1, 2, 6, 7})


class Layout(NamedTuple):
    """What the first bytes of a file decide: `<` or `>`, and the width of offsets.

    Attributes:
        order: As the `struct` module writes it.
        bigtiff: Offsets and counts have 8 bytes, else 4.
    """

    order: str
    bigtiff: bool

    @property
    def offset_size(self) -> int:
        """Bytes of an offset, which are also those a field holds by itself."""
        return 8 if self.bigtiff else 4

    def unsigned(self, data: bytes) -> int:
        """Give the one number that `data` is (2, 4 or 8 bytes)."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")


class Field(NamedTuple):
    """One entry of a directory.

    Attributes:
        tag: Its number.
        kind: Type of the values.
        claimed: How many of them it says there are.
        cell: The last 4 or 8 bytes of the entry: the values, or where they are.
    """

    tag: int
    kind: int
    claimed: int
    cell: bytes

    def size(self, count: int) -> int:
        """Give the bytes of `count` values.

        Raises:
            TiffError: The type is unknown.
        """
        size = SIZES.get(self.kind)
        if size is None:
            raise TiffError(f"{label(self.tag)} is of the unknown type {self.kind}")
        return size * count


def integers(order: str, field: Field, data: bytes) -> tuple[int, ...]:
    """Decode whole numbers.

    Raises:
        TiffError: The field is of another type.
    """
    _demand(field, _INTEGERS, "whole numbers")
    return _unpack(order, field, data)


def numbers(order: str, field: Field, data: bytes) -> tuple[float, ...]:
    """Decode numbers of any type; a fraction over zero is 0, as libtiff reads it.

    Raises:
        TiffError: The field holds something else.
    """
    _demand(field, _NUMBERS, "numbers")
    values = _unpack(order, field, data)
    if field.kind in {_RATIONAL, _SIGNED_RATIONAL}:
        pairs = zip(values[::2], values[1::2], strict=True)
        return tuple(above / below if below else 0.0 for above, below in pairs)
    return values


def text(field: Field, data: bytes) -> str:
    """Decode text up to its first NUL: UTF-8, or else Latin-1.

    Raises:
        TiffError: The field holds something else.
    """
    _demand(field, _BYTES, "text")
    written = data.partition(b"\0")[0]
    try:
        return written.decode()
    except UnicodeDecodeError:
        return written.decode("latin-1")


def _demand(field: Field, kinds: frozenset[int], what: str) -> None:
    if field.kind not in kinds:
        raise TiffError(f"{label(field.tag)} is of type {field.kind} and holds no {what}")


def _unpack(order: str, field: Field, data: bytes) -> tuple[int, ...]:
    code = CODES[field.kind]
    return struct.unpack(f"{order}{len(data) // SIZES[field.kind] * len(code)}{code[0]}", data)
