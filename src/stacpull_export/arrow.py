"""JSON values as Arrow arrays, and the one type that holds all of them.

pyarrow finds the type of a batch. Where values at one place of the documents differ in kind, and between
batches, these rules decide:

    null and absent       are the same
    integer and float     become float, which rounds integers beyond 2^53
    objects               become a struct with the members of all of them, if there are at most 1,000
    lists                 become a list of what their elements become
    anything else         becomes text that holds the JSON of each value

A type with more than 5,000 leaf columns, at all levels together, or of 50 levels becomes JSON text, too.
An object that has no member in any document cannot be a struct, and becomes JSON text as well.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

FLAT = ("xmin", "ymin", "xmax", "ymax")
WITH_HEIGHT = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
"""The members of a bbox."""
TIME = pa.timestamp("us", "UTC")
JSON_TEXT = pa.large_string()
"""Text that holds JSON. In Parquet it is text like any other; here the type distinguishes the two."""
MAX_MEMBERS = 1_000  # members of a struct. A source can name any number, and each takes space in every row
MAX_LEAVES = 5_000  # leaf columns of a file in which values with several of them, such as objects, are stored
_MAX_LEVELS = 50  # objects and lists within each other. Arrow reads and writes no more than 64
_MANY = f"objects with more than {MAX_MEMBERS:,} different members"
_MANY_LEAVES = f"objects that would need more than {MAX_LEAVES:,} columns"
_DEEP = f"objects or lists of {_MAX_LEVELS} levels or more"
_REFUSED = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)

Mixed = dict[str, set[str]]
"""Places whose values became JSON text (`assets.*` keys included), and the kinds of value they had."""


def json_array(values: Sequence[Any], path: str, mixed: Mixed, max_leaves: int = MAX_LEAVES) -> pa.Array:
    try:
        members = set(chain.from_iterable(value for value in values if isinstance(value, dict)))
        if len(members) <= MAX_MEMBERS:
            kind = pa.infer_type(values)
            is_small = leaves(kind) <= max(1, max_leaves) and not _is_wide_or_deep(kind)
            if is_small and not _has_flag_as_float(values, kind):
                return pa.array(values, kind)
    except _REFUSED:
        pass
    types = (_type_of(value, path, mixed) for value in values)
    kind = reduce(lambda first, second: merged_type(first, second, path, mixed, max_leaves), types, pa.null())
    return pa.array([_as_type(value, kind) for value in values], kind)


def _is_wide_or_deep(kind: pa.DataType, levels: int = _MAX_LEVELS) -> bool:
    is_wide = kind.num_fields > MAX_MEMBERS
    return is_wide or not levels or any(_is_wide_or_deep(inner, levels - 1) for inner in _within(kind))


def _has_flag_as_float(values: Sequence[Any], kind: pa.DataType) -> bool:
    """Return True if pyarrow would store true as 1.0, which it does with what follows a float."""
    if pa.types.is_floating(kind):
        return any(isinstance(value, bool) for value in values)
    if not _has_float(kind):
        return False
    there = [value for value in values if value is not None]
    if pa.types.is_list(kind):
        return _has_flag_as_float([*chain.from_iterable(there)], kind.value_type)
    return pa.types.is_struct(kind) and any(
        _has_flag_as_float([value.get(field.name) for value in there], field.type) for field in kind
    )


def _has_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(map(_has_float, _within(kind)))


def leaves(kind: pa.DataType) -> int:
    return sum(map(leaves, _within(kind))) or 1


def _within(kind: pa.DataType) -> list[pa.DataType]:
    """Return the types of the members of a struct, or of the elements of a list; none for another type."""
    return [kind.field(number).type for number in range(kind.num_fields)]


def merged_type(
    one: pa.DataType, other: pa.DataType, path: str, mixed: Mixed, max_leaves: int = MAX_LEAVES
) -> pa.DataType:
    """Return the type that holds the values of both types; the arguments are those of `json_array`."""
    kind = _merged_type(one, other, path, mixed)
    is_narrow = leaves(kind) <= max(1, max_leaves)
    if is_narrow and not _is_wide_or_deep(kind):
        return kind
    mixed.setdefault(path, set()).add(_DEEP if is_narrow else _MANY_LEAVES)
    return JSON_TEXT


def _merged_type(one: pa.DataType, other: pa.DataType, path: str, mixed: Mixed) -> pa.DataType:
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    kinds = {one, other}
    if kinds == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            known = fields.get(field.name, pa.null())
            fields[field.name] = _merged_type(known, field.type, f"{path}.{field.name}", mixed)
        if len(fields) <= MAX_MEMBERS:
            return pa.struct(list(fields.items()))
        mixed.setdefault(path, set()).add(_MANY)
        return JSON_TEXT
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_merged_type(one.value_type, other.value_type, path, mixed))
    mixed.setdefault(path, set()).update(_kind(kind) for kind in (one, other) if kind != JSON_TEXT)
    return JSON_TEXT


def storable_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which Parquet can store values of type `kind`; None if all of them are null."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        fields = [(field.name, stored) for field in kind if (stored := storable_type(field.type)) is not None]
        return pa.struct(fields) if fields else JSON_TEXT
    if pa.types.is_list(kind):
        return pa.list_(storable_type(kind.value_type) or pa.string())
    return kind


def fitted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if kind == JSON_TEXT:
        return pa.array([_as_type(value, kind) for value in array.to_pylist()], kind)
    if pa.types.is_struct(kind):
        nulls = pa.nulls(len(array))
        names = {field.name for field in array.type}
        members = [fitted(array.field(f.name) if f.name in names else nulls, f.type) for f in kind]
        return pa.StructArray.from_arrays(members, fields=list(kind), mask=array.is_null())
    if pa.types.is_list(kind):
        values = fitted(array.values, kind.value_type)
        return pa.ListArray.from_arrays(array.offsets, values, type=kind, mask=array.is_null())
    return array.cast(kind, safe=False)


def _type_of(value: Any, path: str, mixed: Mixed) -> pa.DataType:
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        mixed.setdefault(path, set()).add(_MANY)
        return JSON_TEXT
    if isinstance(value, dict):
        return pa.struct([(name, _type_of(one, f"{path}.{name}", mixed)) for name, one in value.items()])
    if isinstance(value, list):
        types = (_type_of(element, path, mixed) for element in value)
        return pa.list_(reduce(lambda a, b: _merged_type(a, b, path, mixed), types, pa.null()))
    try:
        return pa.scalar(value).type
    except _REFUSED:
        mixed.setdefault(path, set()).add("integer of more than 64 bits")
        return JSON_TEXT


def _as_type(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if kind == JSON_TEXT:
        return orjson.dumps(without_nulls(value)).decode()
    if pa.types.is_struct(kind):
        return {field.name: _as_type(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_as_type(element, kind.value_type) for element in value]
    return float(value) if kind == pa.float64() else value


def without_nulls(value: Any) -> Any:
    """Return a value without the members of its objects that are null: Arrow has absent ones so."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "object"
    if pa.types.is_list(kind):
        return "list"
    return {pa.string(): "text", pa.int64(): "integer", pa.float64(): "float", pa.bool_(): "boolean"}.get(
        kind, str(kind)
    )
