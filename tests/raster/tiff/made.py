"""TIFF files put together field by field, so that any field can be false."""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CODES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 11: "f", 12: "d", 13: "I", 16: "Q", 18: "Q"}


class Value(NamedTuple):
    """Type, count and bytes of a field; `count` and `place` may be wrong."""

    kind: int
    values: Sequence[float] | bytes
    count: int | None = None
    place: int | None = None


Fields = Mapping[int, Value]

IMAGE: Fields = {
    256: Value(4, [40]),
    257: Value(4, [30]),
    258: Value(3, [8]),
    259: Value(3, [1]),
    262: Value(3, [1]),
    273: Value(4, [8]),
    277: Value(3, [1]),
    278: Value(3, [30]),
    279: Value(4, [1200]),
}


def image(**changes: Value | None) -> dict[int, Value]:
    """Give a sound image, with fields set (`t259=Value(3, [5])`) or left out (`t256=None`)."""
    numbered = {int(name[1:]): value for name, value in changes.items()}
    return {tag: value for tag, value in {**IMAGE, **numbered}.items() if value is not None}


def tiff(*directories: Fields, order: str = "<", bigtiff: bool = False, loop_to: int | None = None) -> bytes:
    """Write directories one after the other, each followed by its values.

    `loop_to` is what the last directory names as the next.
    """
    start = 16 if bigtiff else 8
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(
        order + ("HHHQ" if bigtiff else "HI"), *((43, 8, 0, start) if bigtiff else (42, start))
    )
    out = mark + head
    for number, fields in enumerate(directories):
        last = number == len(directories) - 1
        out += _directory(fields, len(out), order, bigtiff=bigtiff, end=(loop_to or 0) if last else None)
    return out


def _directory(fields: Fields, at: int, order: str, *, bigtiff: bool, end: int | None) -> bytes:
    width, wide, few = (8, "Q", "Q") if bigtiff else (4, "I", "H")
    entry = 20 if bigtiff else 12
    after = at + struct.calcsize("<" + few) + entry * len(fields) + width
    values = b""
    entries = struct.pack(order + few, len(fields))
    for tag, value in sorted(fields.items()):
        raw, count = _raw(value, order)
        cell = raw.ljust(width, b"\0")
        if len(raw) > width or value.place is not None:
            place = after + len(values) if value.place is None else value.place
            cell = struct.pack(order + wide, place)
            values += raw + bytes(len(raw) % 2)
        reported = count if value.count is None else value.count
        entries += struct.pack(order + "HH" + wide, tag, value.kind, reported) + cell
    following = after + len(values) if end is None else end
    return entries + struct.pack(order + wide, following) + values


def _raw(value: Value, order: str) -> tuple[bytes, int]:
    if isinstance(value.values, bytes):
        return value.values, len(value.values)
    code = CODES.get(value.kind, "B")
    raw = struct.pack(order + code[0] * len(value.values), *value.values)
    return raw, len(value.values) // len(code)


def moved_to_the_end(data: bytes) -> bytes:
    """Return a TIFF (classic, II) with its first directory moved to the end."""
    offset = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[offset : offset + 2], "little")
    directory = data[offset : offset + 2 + 12 * count] + bytes(4)
    end = len(data) + len(data) % 2
    return data[:4] + end.to_bytes(4, "little") + data[8:].ljust(end - 8, b"\0") + directory


def ascii_field(text: str) -> Value:
    return Value(2, text.encode() + b"\0")


def shorts(*values: int) -> Value:
    return Value(3, values)


def doubles(*values: float) -> Value:
    return Value(12, values)
