"""Read the values of options, wherever they are written: command line, environment, TOML or Python.

A *reader* takes a value as it is written (text, what TOML gives, or an object of Python) and returns the
value that `Selection` or `Options` holds: `"2G"` and 2e9 are the same size, `labels="Rice fields"` is a tuple
of one text, a `date` the text that STAC uses. A reader also takes what it returns. It raises ValueError with
half a sentence ("must be ..."); the caller adds where the value was written. Each field has one reader: its
converter, or the one for its type (`readers`).

Readers read no file, because the values of a selection may come from a ledger. `Declaration.load` reads the
files that the user has named.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from ipaddress import ip_address
from os import PathLike, fspath
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
import msgspec

from stacpull.boxes import flat
from stacpull.clock import in_utc, rfc3339
from stacpull.errors import UsageError
from stacpull.hosts import origin_of
from stacpull.redact import Secret
from stacpull.schemes import remote_schemes
from stacpull.spelling import similar
from stacpull.system import expanded, job_array_task
from stacpull.urls import is_web

Held = TypeVar("Held")

ReadArgument = Callable[[Any], Any]

MOST_AT_ONCE = 4096
"""More simultaneous transfers need more open files than systems allow."""
LARGEST = 2**63 - 1
"""The largest integer that a ledger stores."""

Positive = Annotated[int, (1, LARGEST)]
NotNegative = Annotated[int, (0, LARGEST)]

_SCHEDULER = re.compile(r"(?:[a-z]+://)?[^/\s]+:[0-9]{1,5}")
"""The address of a Dask scheduler."""
_SHORTEST_TOKEN = 16
_LONGEST_INTEGER = 100
"""Characters of an integer: Python refuses to convert very long text."""

Time = str | date | datetime
"""A time, as text in the forms that `--datetime` takes, or as Python's own types. Naive times are UTC."""

TimeOrInterval = Time | tuple[Time | None, Time | None] | list[Time | None]
"""A time, or a start and an end, of which one may be None (open)."""


class Geometry(Protocol):
    """A geometry of shapely, GeoPandas or another library that can represent itself as GeoJSON."""

    @property
    def __geo_interface__(self) -> Mapping[str, Any]:
        """The geometry as a GeoJSON object."""


# --- declarations -----------------------------------------------------------------------------------------


class Declaration(msgspec.Struct, frozen=True):
    """The command-line option, config key and variable of a field."""

    help: str
    """One sentence for help pages and the reference. The default is added from the field."""
    flag: str = ""
    """The name in kebab case; that of the field if empty."""
    short: str = ""
    """One letter."""
    metavar: str = ""
    """What help pages show for the value."""
    load: Callable[[str], object] | None = None
    """Returns what text means on this machine: the content of a file, or the task of a job array. Then the
    field's reader reads it. Not used for values of Python."""
    narrows: bool = False
    """True if an empty list means no filter. So `''` is an error, unless a config file sets the option."""
    of_assets: bool = False
    """True if it decides which assets of an item are fetched (`Selection.asset_filters`)."""
    fixed: bool = False
    """True if a run keeps the value from its start to its end: the commands that continue it, or fetch again
    what it has planned, use the value and refuse another. JSON has such a value."""
    kept: bool = False
    """True if `resume` uses the value again, unless another one than the default is given. JSON has such a
    value."""
    shown: str = ""
    """What help pages show as the default, if not its value."""
    unit: str = ""
    """The unit of the default, for help pages."""
    environment: tuple[str, ...] = ()
    """Variables of other programs that set it, after its own STACPULL_ variable."""
    group: str = ""
    """The group on help pages; that of the class if empty."""
    counted: bool = False
    """True if the flag takes no value: how often it is given is counted (-vv)."""
    bare: str = ""
    """The value of the flag alone. Another one is given as `--NAME=VALUE`."""
    single: bool = False
    """True if a tuple is given as one value (`s3,https`), not by repeating the flag."""


def declaration(help_: str, **given: Any) -> dict[str, Declaration]:
    """Return the metadata of a field that declares its option: the members of `Declaration`."""
    return {"option": Declaration(help_, **given)}


def option(default: Any, help_: str, *, read: ReadArgument | None = None, **given: Any) -> Any:
    """Return a field with its option.

    A field that takes values of other types than its own is an `attrs.field` with a `declaration`, because
    type checkers find a converter only in `attrs.field` itself.

    Args:
        default: The default.
        help_: One sentence, see `Declaration`.
        read: Reads the value; None for the reader of the field's type.
        given: Other members of `Declaration`.
    """
    return attrs.field(default=default, converter=read, metadata=declaration(help_, **given))


def named(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make a class read its arguments, and name the one that it refuses (a `field_transformer` of attrs)."""
    return [
        field.evolve(converter=_reading(field.type), metadata={**field.metadata, "read": field.converter})
        for field in fields
    ]


_NAMES = {"limit": "max_items", "query": "where", "overwrite": "revalidate", "jobs": "concurrency"}
"""Arguments of similar libraries, and what to use here."""


def hinting(kind: type[Held]) -> type[Held]:
    """Make a class answer an argument that it does not have with the one to use."""
    fields: Any = kind
    known = [field.name for field in attrs.fields(fields)]
    init: Any = fields.__init__

    @functools.wraps(init)
    def checked(self: Held, *given: Any, **named: Any) -> None:
        for name in named.keys() - known:
            near = [_NAMES[name]] if _NAMES.get(name) in known else similar(name, known)
            hint = f": use {near[0]}" if near else ""
            raise TypeError(f"{kind.__name__}() has no argument {name!r}{hint}.")
        init(self, *given, **named)

    fields.__init__ = checked
    return kind


def _reading(annotation: Any) -> Any:
    """Return the converter of a field with this annotation, which the signature of its class shows."""

    def read(value: object, holder: attrs.AttrsInstance, field: attrs.Attribute[Any]) -> object:
        try:
            return readers(holder.__class__)[field.name](value)
        except ValueError as problem:
            raise UsageError(f"{field.name} {problem}.") from problem

    read.__annotations__["value"] = annotation
    return attrs.Converter(read, takes_self=True, takes_field=True)


@functools.cache
def hints(kind: type) -> Mapping[str, Any]:
    """Return the types of the fields of a class, with what `Annotated` adds."""
    return get_type_hints(kind, include_extras=True)


@functools.cache
def readers(kind: type) -> Mapping[str, ReadArgument]:
    """Return the reader of each field of a class that is `named`."""
    return {
        field.name: _reader(field.metadata["read"], hints(kind)[field.name]) for field in attrs.fields(kind)
    }


def _reader(read: ReadArgument | None, hint: Any) -> ReadArgument:
    """Return `read`, or the reader for values of the type `hint`; it takes None if the type does."""
    kinds = get_args(hint)
    if type(None) in kinds:
        return attrs.converters.optional(_reader(read, kinds[0]))
    if read is not None:
        return read
    if get_origin(hint) is Literal:
        return choice(*kinds)
    if get_origin(hint) is Annotated:
        return whole(*kinds[1])
    if attrs.has(hint):
        return _instance_of(hint)
    return {bool: switch, int: whole(), str: text, Secret: secret}.get(hint, lambda value: value)


def _instance_of(kind: type[Held]) -> Callable[[object], Held]:
    """Return a reader that takes only instances of a class."""

    def read(value: object) -> Held:
        if isinstance(value, kind):
            return value
        package = kind.__module__.partition(".")[0]
        given = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise ValueError(f"must be {package}.{kind.__name__}(...), not {given}")

    return read


def instance(name: str, kind: type[Held], value: Held | None) -> Held:
    """Return `value`, or an instance with the defaults for None.

    Raises:
        UsageError: It is something else, such as a dict.
    """
    try:
        return kind() if value is None else _instance_of(kind)(value)
    except ValueError as problem:
        raise UsageError(f"{name} {problem}.") from problem


# --- text, switches and choices ---------------------------------------------------------------------------

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_STRUCTURAL = frozenset(
    {"self", "root", "parent", "collection", "child", "item", "items", "next", "prev", "search", "license"}
)
"""Relations of the tree that an item is in, and of its licence."""
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_STEERING = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"}
    | {"proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Fields that control the destination or framing of a request, or the requested part of an asset."""


def _wrong(expected: str, value: object) -> ValueError:
    return ValueError(f"must be {expected}, not {value!r}")


def text(raw: object) -> str:
    """Read any text that is not empty."""
    if not isinstance(raw, str):
        raise _wrong("text in quotes", raw)
    if not raw.strip():
        raise ValueError("must not be empty")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise _wrong("text in UTF-8", raw) from None
    return raw


def switch(raw: object) -> bool:
    """Read on or off: a boolean, or true/false, yes/no, on/off, 1/0 in any case."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise _wrong("true or false", raw)


def choice(*allowed: str) -> ReadArgument:
    """Return a reader that takes one of `allowed`."""

    def read(raw: object) -> str:
        if raw not in allowed:
            raise _wrong(f"one of {', '.join(allowed)}", raw)
        return str(raw)

    return read


def prune(raw: object) -> str | None:
    """Read what `--prune` does; true is `list`."""
    return {True: "list", False: None}[raw] if isinstance(raw, bool) else choice("list", "remove")(raw)


def texts(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Read one text, several texts or None as a tuple."""
    several = () if value is None else (value,) if isinstance(value, str) else _listed(value)
    if several is None or not all(isinstance(given, str) and given for given in several):
        raise _wrong("text or a list of texts, none of them empty", value)
    return tuple(map(text, several))


def where(value: str | Iterable[str] | Mapping[str, object] | None) -> tuple[str, ...]:
    """Read conditions as `property=value` texts; a mapping gives one for each of its values.

    A list of values gives one condition for each, which are alternatives, as are conditions with the same
    property.
    """
    if not isinstance(value, Mapping):
        return texts(value)
    conditions = []
    for name, given in value.items():
        if not isinstance(name, str) or "=" in name:
            raise _wrong("properties and their values, with names without =", value)
        several = _listed(given)
        if several == ():
            raise _wrong("properties and their values, none of them an empty list", value)
        conditions += [f"{name}={_plain(one)}" for one in several or (given,)]
    return texts(conditions)


def _plain(value: object) -> str:
    """Return the text, number or boolean of a condition as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if finite_number(value) is None:
        raise _wrong("a text, a number or a boolean for each property, or a list of these", value)
    return str(value)


def schemes(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Read URL schemes: a list, or text with commas between them."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else _listed(value)
    names = [str(part).strip().lower() for part in parts or ()]
    known = sorted(remote_schemes())
    if parts is None or not set(names).issubset(known):
        raise ValueError(f"must be some of {', '.join(known)}, separated by commas, not {value!r}")
    return tuple(dict.fromkeys(names))


def relations(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Read relations of links that can lead from one item to another."""
    names = tuple(name.strip() for name in texts(value))
    for name in names:
        if name.lower() in _STRUCTURAL:
            raise _wrong("a relation that leads to another item", name)
    return names


def field_name(raw: object) -> str:
    """Read the name of a header field to send.

    Raises:
        ValueError: It is not a field name, or a field that controls the connection.
    """
    name = text(raw)
    if not FIELD_NAME.fullmatch(name):
        raise _wrong("the name of a header field", name)
    if name.lower() in _STEERING:
        raise ValueError(f"must not be the header field {name}, which controls the connection")
    return name


def secret(value: str | Secret) -> Secret:
    """Read any text as a secret."""
    return value if isinstance(value, Secret) else Secret(value)


def header_fields(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    """Read header fields; their values become secrets."""
    fields = secrets(value)
    for name in fields:
        field_name(name)
    return fields


def secrets(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    """Read names and their values, which become secrets."""
    given: object = {} if value is None else value
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(one, str | Secret) for name, one in given.items()
    ):
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise _wrong("a dict of names and texts", shown)
    return {name: secret(one) for name, one in given.items()}


def expression(value: str | Mapping[str, Any]) -> str:
    """Read CQL2: text, or JSON as text or as a mapping."""
    return json.dumps(value) if isinstance(value, Mapping) else text(value).strip()


def token(value: str | Secret) -> Secret:
    """Read a token of at least 16 characters."""
    if isinstance(value, Secret):
        return value
    given: object = value
    if not isinstance(given, str):
        raise ValueError("must be text in quotes")  # noqa: TRY004 - readers raise one error
    if len(given.strip()) < _SHORTEST_TOKEN:
        raise ValueError(f"must have at least {_SHORTEST_TOKEN} characters")
    return Secret(given.strip())


def _listed(value: object) -> tuple[Any, ...] | None:
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes | str):
        return tuple(value)
    return None


# --- numbers, sizes and times -----------------------------------------------------------------------------

_MULTIPLES = {"K": 1e3, "M": 1e6, "G": 1e9}
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_UNIT_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


def whole(least: int = -LARGEST, most: int = LARGEST, *, auto: bool = False) -> ReadArgument:
    """Return a reader of whole numbers from `least` to `most`; with `auto` also of this word, as None."""
    upper = "on" if most == LARGEST else f"to {most}"
    bounds = "" if least == -LARGEST else f" from {least} {upper}"
    expected = f"{'auto or ' if auto else ''}a whole number{bounds}"

    def read(raw: object) -> int | None:
        if auto and isinstance(raw, str) and raw == "auto":
            return None
        number = _integer(raw)
        if number is None or not least <= number <= most:
            raise _wrong(expected, raw)
        return number

    return read


def above_zero(quantity: str) -> Callable[[object], float]:
    """Return a reader of numbers above 0; `quantity` names them in the error, as in "number of metres"."""

    def read(raw: object) -> float:
        number = finite_number(raw)
        if number is None or number <= 0:
            raise _wrong(f"a {quantity} above 0", raw)
        return number

    return read


def from_zero(quantity: str) -> Callable[[object], float]:
    """Return a reader of numbers from 0, which means no limit; `quantity` names them in the error."""

    def read(raw: object) -> float:
        number = finite_number(raw)
        if number is None or number < 0:
            raise _wrong(f"a {quantity} of at least 0 (0: no limit)", raw)
        return number

    return read


seconds = above_zero("number of seconds")


def duration(raw: object) -> float:
    """Read a time in seconds: a number from 0 (no limit), or text like 3h50m, 90m, 1d12h or 45s."""
    found = _DURATION.fullmatch(raw.strip().lower()) if isinstance(raw, str) else None
    if found is not None and found[0]:
        total: float | None = sum(
            float(part) * unit for part, unit in zip(found.groups(), _UNIT_SECONDS, strict=True) if part
        )
    else:
        total = finite_number(raw)
    if total is None or not 0 <= total < math.inf:
        raise _wrong("a time like 3h50m or 90m, or a number of seconds (0: no limit)", raw)
    return total


def byte_count(raw: object) -> int:
    """Read a size in bytes: a number from 1 on, or text with a suffix K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or not 1 <= number < LARGEST:
        raise _wrong("a number of bytes, like 500M or 2G", raw)
    return int(number)


def byte_rate(raw: object) -> float:
    """Read bytes per second: a number from 0 on, or text with a suffix K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or number < 0:
        raise _wrong("a number of bytes per second, like 500K or 2M", raw)
    return number


def percentage(raw: object) -> float:
    """Read a number from 0 to 100, with or without a percent sign."""
    number = finite_number(raw.strip().removesuffix("%") if isinstance(raw, str) else raw)
    if number is None or not 0 <= number <= 100:  # noqa: PLR2004 - percent
        raise _wrong("a number from 0 to 100", raw)
    return number


def order(raw: object) -> str:
    """Read a property to sort by, with `-` in front for the descending order."""
    text = raw.strip().removeprefix("+") if isinstance(raw, str) else ""
    sign, name = ("-", text[1:]) if text.startswith("-") else ("", text)
    if not name.strip() or "," in name:
        raise _wrong("a property such as datetime or -eo:cloud_cover", raw)
    return sign + name.strip().removeprefix("properties.")


def shard(value: str | Sequence[int]) -> tuple[int, int]:
    """Read I/N, the I-th of N parts; `auto` or `auto/N` is the part of this task of a job array."""
    parts = value.partition("/")[::2] if isinstance(value, str) else _listed(value) or ()
    number, count = parts if len(parts) == 2 else (None, None)  # noqa: PLR2004 - I and N
    last = _integer(count)
    if number == "auto" and (not count or (last is not None and last > 0)):
        return job_array_task(last)
    first = _integer(number)
    if first is None or last is None or not 1 <= first <= last:
        raise _wrong("I/N with I from 1 to N", value)
    return first, last


def _bytes(raw: object) -> float | None:
    plain = raw.strip() if isinstance(raw, str) else raw
    factor = 1.0
    if isinstance(plain, str) and plain[-1:].upper() in _MULTIPLES:
        factor, plain = _MULTIPLES[plain[-1:].upper()], plain[:-1]
    number = finite_number(plain)
    return None if number is None else finite_number(number * factor)


def _integer(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str):
        plain = raw.strip()
        if not plain.isascii() or not plain.removeprefix("-").isdigit():
            return None
        number = int(plain) if len(plain) <= _LONGEST_INTEGER else LARGEST + 1
    elif hasattr(raw, "__index__"):
        number = raw.__index__()
    else:
        return None
    if number > LARGEST:
        raise ValueError(f"must be at most {LARGEST}, not {raw!r}")
    return number


def finite_number(raw: object) -> float | None:
    """Return a finite number, also from text; None for anything else."""
    if isinstance(raw, bool):
        return None
    try:
        number = float(raw)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# --- areas and times --------------------------------------------------------------------------------------

_WKT = re.compile(r"(MULTI)?(POINT|LINESTRING|POLYGON)\s*Z?M?\s*\(|GEOMETRYCOLLECTION\s*\(", re.IGNORECASE)
_BOX = re.compile(r"[-+0-9.,eE\s]+\Z")


def box(value: str | Iterable[float]) -> tuple[float, ...]:
    """Read W,S,E,N in degrees (RFC 7946, 5: west may exceed east, across the antimeridian).

    Six numbers are a box with heights, W,S,low,E,N,high; the heights are not compared.
    """
    parts = value.split(",") if isinstance(value, str) else _listed(value) or ()
    numbers = [finite_number(part) for part in parts]
    if len(numbers) not in (4, 6) or None in numbers:
        raise _wrong("four numbers W,S,E,N (or six, with heights)", value)
    sides = tuple(number for number in numbers if number is not None)
    west, south, east, north = flat(sides)
    if not (abs(west) <= 180 and abs(east) <= 180):  # noqa: PLR2004 - degrees
        raise ValueError("has a longitude outside of -180 to 180")
    if not -90 <= south <= north <= 90:  # noqa: PLR2004 - degrees
        raise ValueError("must have its latitudes in order, within -90 to 90: W,S,E,N")
    return sides


def geometry(value: str | Mapping[str, Any] | Geometry) -> str:
    """Read GeoJSON: text, a mapping, or an object with `__geo_interface__`."""
    given = getattr(value, "__geo_interface__", value)
    if isinstance(given, str):
        given = _geojson(text(given))
    try:
        if isinstance(given, Mapping):
            return json.dumps(given, separators=(",", ":"), default=dict)
    except (TypeError, ValueError, RecursionError):
        pass
    raise _wrong("GeoJSON (text or a dict) or a shapely geometry", value)


def _geojson(written: str) -> dict[str, Any]:
    if _WKT.match(written.strip()):
        raise ValueError("must be GeoJSON (text, or a file with it), not WKT; --filter takes WKT")
    try:
        document = json.loads(written)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise ValueError(f"is not GeoJSON: {problem}") from problem
    if not isinstance(document, dict):
        raise ValueError("is not GeoJSON: it is not an object with a type")  # noqa: TRY004 - readers raise one error
    return document


def clip(value: str | Iterable[float] | Mapping[str, Any] | Geometry) -> str:
    """Read an area: GeoJSON as text or a mapping, a geometry, or a box of four numbers."""
    is_box = _BOX.match(value) if isinstance(value, str) else _listed(value) is not None
    if is_box and not hasattr(value, "__geo_interface__"):
        return ",".join(map(repr, flat(box(value))))  # type: ignore[arg-type] # narrowed
    return geometry(value)  # type: ignore[arg-type] # narrowed


def interval(value: TimeOrInterval) -> str:
    """Read a time or a (start, end) of times, as STAC writes it; None is an open end."""
    ends = [".." if end is None else _time(end) for end in value] if isinstance(value, tuple | list) else []
    if ends and (len(ends) != 2 or None in ends or ends == ["..", ".."]):  # noqa: PLR2004 - a start and an end
        raise _wrong("a date, or (start, end) of dates", value)
    found = "/".join(map(str, ends)) or _time(value)
    if found is None:
        raise _wrong("a date, a datetime, text, or (start, end) of those", value)
    return found


def _time(value: object) -> str | None:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return rfc3339(in_utc(moment))
    return value.isoformat() if isinstance(value, date) else None


# --- paths and addresses ----------------------------------------------------------------------------------


def file_path(value: str | PathLike[str]) -> Path:
    """Read a path; `~` is the home directory."""
    path = expanded(text(fspath(value) if isinstance(value, PathLike) else value))
    if str(path).startswith("~"):
        raise ValueError(f"is {path}, and there is no such home directory")
    return path


def web_address(raw: object) -> str:
    """Read an http or https URL."""
    address = text(raw)
    if not is_web(address):
        raise ValueError(f"must begin with http:// or https://, not {raw!r}")
    if not origin_of(address).host:
        raise _wrong("a URL with a valid host", raw)
    return address


def listen_address(value: str | int | tuple[str, int]) -> tuple[str, int]:
    """Read [HOST:]PORT: an IP address (127.0.0.1 if none is given; IPv6 in brackets) and a port."""
    match value:
        case (str(name), at):
            raw = f"[{name}]:{at}" if ":" in name else f"{name}:{at}"
        case _:
            raw = f"127.0.0.1:{value}" if _integer(value) is not None else str(value)
    host, _, port = raw.rpartition(":")
    number = _integer(port)
    try:
        address = str(ip_address("127.0.0.1" if host == "localhost" else host.strip("[]")))
    except ValueError:
        number = None
    if number is None or not 0 <= number <= 65535 or (":" in host and host[:1] != "["):  # noqa: PLR2004 - ports
        raise _wrong("a port, or an IP address and a port, like 127.0.0.1:8080", value)
    return address, number


def cluster(value: str | int | Path) -> str:
    """Read where a Dask cluster is: the address or the file of its scheduler, or a number of workers."""
    is_plain = isinstance(value, int | Path) and not isinstance(value, bool)
    given = str(value) if is_plain else text(value)
    if given.isascii() and given.isdecimal():
        workers = _integer(given)
        if workers is None or not 1 <= workers <= MOST_AT_ONCE:
            raise ValueError(f"must be a number of workers from 1 to {MOST_AT_ONCE}, not {given}")
        return str(workers)
    if _SCHEDULER.fullmatch(given):
        return given
    path = expanded(given)
    if not path.is_file():
        raise _wrong("an address such as tcp://host:8786, a scheduler file, or a number of workers", value)
    return str(path)


# --- what text means on this machine (`Declaration.load`) -------------------------------------------------


def existing_file(raw: str) -> Path:
    """Return the path of a file that exists."""
    path = expanded(text(raw))
    if not path.is_file():
        raise ValueError(f"is not a file: {path}")
    return path


def directory(raw: str) -> Path:
    """Return the path of a directory, which may not exist yet."""
    path = file_path(raw)
    if path.exists() and not path.is_dir():
        raise ValueError(f"is not a directory: {path}")
    return path


def content(raw: str) -> str:
    """Return the content of the file for @FILE, else the text."""
    written = raw.strip()
    if not written.startswith("@"):
        return raw
    name = written[1:]
    if not name.strip():
        raise ValueError("needs the name of a file after @")
    try:
        found = expanded(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"cannot read {name}: it is not UTF-8 text") from problem
    except (OSError, ValueError) as problem:
        raise ValueError(f"cannot read {name}: {getattr(problem, 'strerror', None) or problem}") from problem
    if not found.strip():
        raise ValueError(f"finds nothing in {name}")
    return found


def area(raw: str) -> str:
    """Return the content of a file for @FILE or its path alone; other text is GeoJSON, a box or WKT."""
    written = raw.strip()
    is_area = written.startswith(("{", "[")) or _BOX.match(written) or _WKT.match(written)
    return written if is_area or not written else content(f"@{written.removeprefix('@')}")


def item_ids(raw: str) -> tuple[str, ...]:
    """Return one item id, or for @FILE the ids in the file (`ids_in`)."""
    if not raw.startswith("@"):
        return (text(raw),)
    import csv  # noqa: PLC0415 -- few runs have a list: 1 ms

    try:
        ids = ids_in(content(raw))
    except csv.Error as problem:
        raise ValueError(f"finds no list of ids in {raw[1:]}: {problem}") from problem
    if not ids:
        raise ValueError(f"finds no id in {raw[1:]}")
    return ids


_ID_COLUMNS: Final = (
    "id", "item", "item_id", "itemid", "patch", "patch_id", "patch_name", "s2_patch", "s2v1_name", "s2_name",
    "name", "tile_id", "image_id", "filename",
)  # fmt: skip
"""Headers that name the column of ids, the surest first."""


def ids_in(text: str) -> tuple[str, ...]:
    """Return the ids in the text of a list, in order, each once.

    One id per line, or a table: comma, semicolon or tab, quoted or not, with or without a header, as datasets
    publish their splits (BigEarthNet's `train.csv`, TorchGeo's `<s2 patch>,<s1 patch>`). Without a header
    that names a column of ids, they are in the first column. Blank lines and lines that begin with `#` are
    skipped.

    Raises:
        csv.Error: A cell has more than 131,072 characters (the limit of Python's csv).
    """
    lines = [
        line
        for line in text.lstrip("\ufeff").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        return ()
    import csv  # noqa: PLC0415 -- see above

    delimiter = next((sign for sign in "\t;," if sign in lines[0]), ",")
    rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    names = [cell.strip().casefold().replace(" ", "_").replace("-", "_") for cell in rows[0]]
    column = next((names.index(name) for name in _ID_COLUMNS if name in names), None)
    body = rows if column is None else rows[1:]
    cells = (row[column or 0].strip() for row in body if len(row) > (column or 0))
    return tuple(dict.fromkeys(cell for cell in cells if cell))
