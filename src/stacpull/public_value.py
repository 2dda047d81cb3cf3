"""The base class of the results and events of public functions."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, ClassVar

import msgspec


class _DataclassFields:
    """Creates `__dataclass_fields__` of a struct at its first use."""

    def __get__(self, _: object, kind: type[msgspec.Struct]) -> dict[str, dataclasses.Field[Any]]:
        return _fields(kind)


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, dataclasses.Field[Any]]:
    same = dataclasses.make_dataclass(kind.__name__, map(_field, msgspec.structs.fields(kind)))
    return {field.name: field for field in dataclasses.fields(same)}


def _field(one: msgspec.structs.FieldInfo) -> tuple[str, Any, dataclasses.Field[Any]]:
    if one.default is not msgspec.NODEFAULT:
        return one.name, one.type, dataclasses.field(default=one.default)
    if one.default_factory is not msgspec.NODEFAULT:
        return one.name, one.type, dataclasses.field(default_factory=one.default_factory)
    return one.name, one.type, dataclasses.field()


class PublicValue(msgspec.Struct, frozen=True):
    """An immutable value; `dataclasses.asdict`, `fields` and `replace` work with it.

    It is not made by `dataclasses` because that takes fifty times as long, at the start of every command.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return dataclasses.asdict(self)

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]] = _DataclassFields()  # type: ignore[assignment]
