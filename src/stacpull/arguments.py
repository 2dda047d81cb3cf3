"""Read the arguments of `Selection` and `Options` as people write them in Python.

Each function here converts one argument: `labels="Rice fields"` becomes a tuple of one text, a `date` becomes
the text that STAC uses, a geometry becomes GeoJSON. A value that cannot be converted becomes a `Rejected`,
and `named` turns that into an error that names the argument.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from os import PathLike
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from stacpull.errors import UsageError
from stacpull.redact import Secret

__all__ = [
    "MOST_AT_ONCE",
    "AtOnce",
    "Geometry",
    "Interval",
    "NotNegative",
    "Positive",
    "Time",
    "box",
    "file_path",
    "geometry",
    "instance",
    "interval",
    "named",
    "pair",
    "ratio",
    "secrets",
    "switch",
    "text",
    "texts",
    "where",
    "whole",
]

MOST_AT_ONCE = 4096
"""More simultaneous transfers need more open files than systems allow."""

Held = TypeVar("Held")

Time = str | date | datetime
"""A time, as text in the forms that `--datetime` takes, or as Python's own types. Naive times are UTC."""

Interval = Time | tuple[Time | None, Time | None] | list[Time | None]
"""A time, or a start and an end of which one may be None: open."""


Positive = Annotated[int, (1, math.inf)]
"""An integer from 1 on."""

NotNegative = Annotated[int, (0, math.inf)]
"""An integer from 0 on."""

AtOnce = Annotated[int, (1, MOST_AT_ONCE)]
"""How many transfers go on at once."""


class Geometry(Protocol):
    """A geometry of shapely, GeoPandas or another library that gives itself as GeoJSON."""

    @property
    def __geo_interface__(self) -> Mapping[str, Any]:
        """The geometry as a GeoJSON object."""


class Rejected(NamedTuple):
    """Stands for a value that could not be converted."""

    expected: str
    value: object


def named(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make a class check its converted arguments; pass it to attrs as `field_transformer`."""
    return [field.evolve(validator=_check) for field in fields]


def _check(holder: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, Rejected):
        raise UsageError(f"{field.name} must be {value.expected}, not {value.value!r}.")
    kind: Any = type(holder)
    expected = _expected(_hints(kind)[field.name], value)
    if expected is not None:
        raise UsageError(f"{field.name} must be {expected}, not {value!r}.")


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _expected(hint: Any, value: object) -> str | None:
    """Return what `hint`, the annotation of an argument, asks for in place of `value`; None if that fits.

    Choices, numbers and classes with named arguments are looked at; converters read what else there is.
    """
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return None if value in kinds else f"one of {', '.join(map(repr, kinds))}"
    if get_origin(hint) is Annotated:
        least, most = kinds[1]
        number = getattr(value, "__index__", lambda: -1)()
        upper = "" if most == math.inf else f" to {most:,}"
        fits = least <= number <= most and not isinstance(value, bool)
        return None if fits else f"an integer from {least}{upper}{'' if upper else ' on'}"
    if type(None) in kinds:
        rest = [kind for kind in kinds if kind is not type(None)]
        return None if value is None or len(rest) > 1 else _expected(rest[0], value)
    return _expected_of_class(hint, value)


def _expected_of_class(hint: Any, value: object) -> str | None:
    if hint is int:
        return None if hasattr(value, "__index__") and not isinstance(value, bool) else "an integer"
    if hint is float:
        return None if _number(value) is not None and not isinstance(value, str) else "a number"
    if attrs.has(hint) and not isinstance(value, hint):
        return f"stacpull.{hint.__name__}(...)"
    return None


def instance(name: str, kind: type[Held], value: Held | None) -> Held:
    """Return `value`, or one with defaults for None.

    Raises:
        UsageError: It is something else, such as a dict.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be stacpull.{kind.__name__}(...), not {type(value).__name__}.")
    return value


def _reject(expected: str, value: object) -> Any:
    return Rejected(expected, value)


def text(value: str | None) -> str | None:
    """Return `value` if it is text or None."""
    given: object = value
    return given if given is None or isinstance(given, str) else _reject("text", given)


def texts(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return one text, several texts or None as a tuple."""
    if value is None:
        return ()
    several = (value,) if isinstance(value, str) else _listed(value)
    if several is None or not all(isinstance(one, str) and one for one in several):
        return cast("tuple[str, ...]", _reject("text or a list of texts, none of them empty", value))
    return several


def where(value: str | Iterable[str] | Mapping[str, object] | None) -> tuple[str, ...]:
    """Return conditions as `property=value` texts; a mapping gives one of each of its entries."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={_plain(one)}" for name, one in value.items())
    return texts(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def switch(value: bool | None) -> bool | None:
    """Return `value` if it is True, False or None."""
    given: object = value
    return given if given is None or isinstance(given, bool) else _reject("True, False or None", given)


def whole(value: int | None) -> int | None:
    """Return `value` if it is None or an integer, of any library."""
    if value is None:
        return None
    try:
        return _reject("an integer", value) if isinstance(value, bool) else value.__index__()
    except (AttributeError, TypeError):
        return cast("int", _reject("an integer", value))


def ratio(value: float | None) -> float | None:
    """Return `value` if it is None or a finite number."""
    if value is None:
        return None
    number = _number(value)
    return _reject("a number", value) if number is None else number


def pair(value: tuple[int, ...] | str | None) -> tuple[int, ...] | None:
    """Return a shard (I, N) from a tuple, a list or text such as "1/4"."""
    if value is None:
        return None
    parts = tuple(value.split("/")) if isinstance(value, str) else _listed(value)
    try:
        number, count = (int(part) for part in parts or ())
    except (TypeError, ValueError):
        return cast("tuple[int, ...]", _reject("(I, N), the I-th of N parts", value))
    return (number, count) if 1 <= number <= count else _reject("(I, N) with I from 1 to N", value)


def box(value: str | Iterable[float] | None) -> tuple[float, ...] | None:
    """Return a box of four or six numbers (west, south, east, north; with heights) in degrees."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else _listed(value)
    numbers = tuple(_number(part) for part in parts or ())
    if len(numbers) not in (4, 6) or None in numbers:
        return cast("tuple[float, ...]", _reject("four numbers: west, south, east, north", value))
    return cast("tuple[float, ...]", numbers)


def interval(value: Interval | None) -> str | None:
    """Return a time or a (start, end) of times as STAC writes it; None is an open end."""
    if value is None:
        return None
    if isinstance(value, tuple | list):
        ends = tuple(".." if end is None else _time(end) for end in value)
        if len(ends) != 2 or None in ends or ends == ("..", ".."):  # noqa: PLR2004 - a start and an end
            return cast("str", _reject("a date, or (start, end) of dates", value))
        return "/".join(cast("tuple[str, str]", ends))
    return _time(value) or _reject("a date, a datetime, text, or (start, end) of those", value)


def _time(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else None


def geometry(value: str | Mapping[str, Any] | Geometry | None) -> str | None:
    """Return GeoJSON as text, from text, a mapping or an object with `__geo_interface__`."""
    if value is None or isinstance(value, str):
        return value
    given = getattr(value, "__geo_interface__", value)
    try:
        if isinstance(given, Mapping):
            return json.dumps(given, separators=(",", ":"), default=dict)
    except (TypeError, ValueError, RecursionError):
        pass
    return cast("str", _reject("GeoJSON (text or a dict) or a shapely geometry", value))


def secrets(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    """Return header fields or query parameters with their values kept as secrets."""
    given: object = {} if value is None else value
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(one, str | Secret) for name, one in given.items()
    ):
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        return cast("Mapping[str, Secret]", _reject("a dict of names and texts", shown))
    return {name: one if isinstance(one, Secret) else Secret(one) for name, one in given.items()}


def file_path(value: str | PathLike[str] | None) -> Path | None:
    """Return a path with `~` expanded."""
    if value is None:
        return None
    try:
        return Path(value).expanduser()
    except (TypeError, RuntimeError):
        return cast("Path", _reject("a path", value))


def _listed(value: object) -> tuple[Any, ...] | None:
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return tuple(value)
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
