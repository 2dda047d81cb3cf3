"""Read the values of options: from the command line, the environment and TOML, and from Python.

- A *reader* takes a raw value (text, or what TOML gives) and returns the value that `Selection` or `Options`
  holds. It raises ValueError with half a sentence ("must be ..."); the caller knows where the value was
  written and adds that.
- A *converter* takes one argument as people write it in Python: `labels="Rice fields"` becomes a tuple of
  one text, a `date` the text that STAC uses, a geometry GeoJSON. It raises ValueError like a reader; `named`
  adds the name of the argument.
- `option` is a field with its command-line option; `declaration` declares the option of another field.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from ipaddress import ip_address
from os import PathLike
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
from stacpull.clock import rfc3339
from stacpull.errors import UsageError
from stacpull.hosts import origin_of
from stacpull.redact import Secret
from stacpull.schemes import remote_schemes
from stacpull.system import expanded, job_array_task
from stacpull.urls import is_web

Held = TypeVar("Held")

Reader = Callable[[object], object]

MOST_AT_ONCE = 4096
"""More simultaneous transfers need more open files than systems allow."""
LARGEST = 2**63 - 1
"""The largest integer that a ledger stores."""

Positive = Annotated[int, (1, LARGEST)]
NotNegative = Annotated[int, (0, LARGEST)]
NumberAboveZero = Annotated[float, (math.ulp(0.0), math.inf)]
NumberFromZero = Annotated[float, (0.0, math.inf)]
AtOnce = Annotated[int, (1, MOST_AT_ONCE)]
"""How many transfers run at the same time."""

_SCHEDULER = re.compile(r"(?:[a-z]+://)?[^/\s]+:[0-9]{1,5}")
"""The address of a Dask scheduler."""
_SHORTEST_TOKEN = 16
_LONGEST_INTEGER = 100
"""Characters of an integer: Python refuses to convert very long text."""

Time = str | date | datetime
"""A time, as text in the forms that `--datetime` takes, or as Python's own types. Naive times are UTC."""

Interval = Time | tuple[Time | None, Time | None] | list[Time | None]
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
    read: Reader | None = None
    """Reads one value; chosen by the type of the field if not given (`reader_of`)."""
    narrows: bool = False
    """True if an empty list keeps everything: `''` is then refused, unless it undoes a config file."""
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
    single: bool = False
    """True if a tuple is given as one value (`s3,https`), not by repeating the flag."""


def declaration(help_: str, **given: Any) -> dict[str, Declaration]:
    """Return the metadata of a field that declares its option: the members of `Declaration`."""
    return {"option": Declaration(help_, **given)}


def option(default: Any, help_: str, **given: Any) -> Any:
    """Return a field with its option. One with a converter is an `attrs.field` with a `declaration`.

    Type checkers find a converter only in `attrs.field` itself.
    """
    return attrs.field(default=default, metadata=declaration(help_, **given))


def reader_of(hint: Any) -> Reader:
    """Return the reader for values of a field with the type `hint`; of one element if it is a tuple."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if get_origin(hint) is Literal:
        return choice(*kinds)
    if get_origin(hint) is Annotated:
        return whole(kinds[1][0])
    if type(None) in get_args(hint):
        return reader_of(kinds[0])
    return {bool: read_switch, int: whole(0)}.get(hint, read_text)


# --- readers of text and TOML -----------------------------------------------------------------------------

_WKT = re.compile(r"(MULTI)?(POINT|LINESTRING|POLYGON)\s*Z?M?\s*\(|GEOMETRYCOLLECTION\s*\(", re.IGNORECASE)
_BOX = re.compile(r"[-+0-9.,eE\s]+\Z")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MULTIPLES = {"K": 1e3, "M": 1e6, "G": 1e9}
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
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_UNIT_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


def read_text(raw: object) -> str:
    """Read any text that is not empty."""
    if not isinstance(raw, str):
        raise ValueError(f"must be text in quotes, not {raw!r}")  # noqa: TRY004 - readers raise one error
    if not raw.strip():
        raise ValueError("must not be empty")
    return _unicode(raw)


def read_switch(raw: object) -> bool:
    """Read on or off: a TOML boolean, or true/false, yes/no, on/off, 1/0 in any case."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError(f"must be true or false, not {raw!r}")


def choice(*allowed: str) -> Reader:
    """Return a reader that takes one of `allowed`."""

    def read(raw: object) -> str:
        if raw not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {raw!r}")
        return str(raw)

    return read


def schemes(raw: object) -> tuple[str, ...]:
    """Read URL schemes, separated by commas."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    names = [str(part).strip().lower() for part in parts] if isinstance(parts, list) else []
    known = sorted(remote_schemes())
    if not names or not set(names).issubset(known):
        raise ValueError(f"must be some of {', '.join(known)}, separated by commas, not {raw!r}")
    return tuple(dict.fromkeys(names))


def field_name(raw: object) -> str:
    """Read the name of a header field to send.

    Raises:
        ValueError: It is not a field name, or a field that controls the connection.
    """
    name = read_text(raw)
    if not FIELD_NAME.fullmatch(name):
        raise ValueError(f"must be the name of a header field, not {name!r}")
    if name.lower() in _STEERING:
        raise ValueError(f"must not be the header field {name}, which controls the connection")
    return name


def relation(raw: object) -> str:
    """Read the relation of a link that can lead from one item to another."""
    name = read_text(raw).strip()
    if name.lower() in _STRUCTURAL:
        raise ValueError(f"must be a relation that leads to another item, not {name!r}")
    return name


def whole(least: int) -> Callable[[object], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(raw: object) -> int:
        number = _integer(raw)
        if number is None or number < least:
            raise ValueError(f"must be a whole number from {least} on, not {raw!r}")
        return number

    return read


def auto_or_at_once(raw: object) -> int | None:
    """Read a number of simultaneous transfers, from 1 to 4096; None stands for `auto`."""
    number = auto_or_whole(raw)
    if number is not None and number > MOST_AT_ONCE:
        raise ValueError(f"must be auto or a whole number from 1 to {MOST_AT_ONCE}, not {raw!r}")
    return number


def auto_or_whole(raw: object) -> int | None:
    """Read a whole number from 1 on; None stands for `auto`."""
    if raw == "auto":
        return None
    number = _integer(raw)
    if number is None or number < 1:
        raise ValueError(f"must be auto or a whole number from 1 on, not {raw!r}")
    return number


def above_zero(quantity: str) -> Callable[[object], float]:
    """Return a reader of numbers above 0; `quantity` names them in the error, as in "number of metres"."""

    def read(raw: object) -> float:
        number = _number(raw)
        if number is None or number <= 0:
            raise ValueError(f"must be a {quantity} above 0, not {raw!r}")
        return number

    return read


def from_zero(quantity: str) -> Callable[[object], float]:
    """Return a reader of numbers from 0, which means no limit; `quantity` names them in the error."""

    def read(raw: object) -> float:
        number = _number(raw)
        if number is None or number < 0:
            raise ValueError(f"must be a {quantity} of at least 0 (0: no limit), not {raw!r}")
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
        total = _number(raw)
    if total is None or total < 0:
        raise ValueError(
            f"must be a time like 3h50m or 90m, or a number of seconds (0: no limit), not {raw!r}"
        )
    return total


def byte_count(raw: object) -> int:
    """Read a size in bytes: a number from 1 on, or text with a suffix K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or number < 1:
        raise ValueError(f"must be a number of bytes, like 500M or 2G, not {raw!r}")
    return int(number)


def byte_rate(raw: object) -> float:
    """Read bytes per second: a number from 0 on, or text with a suffix K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or number < 0:
        raise ValueError(f"must be a number of bytes per second, like 500K or 2M, not {raw!r}")
    return number


def _bytes(raw: object) -> float | None:
    plain = raw.strip() if isinstance(raw, str) else raw
    factor = 1.0
    if isinstance(plain, str) and plain[-1:].upper() in _MULTIPLES:
        factor, plain = _MULTIPLES[plain[-1:].upper()], plain[:-1]
    number = _number(plain)
    return None if number is None else number * factor


def existing_file(raw: object) -> Path:
    """Read the path of a file that exists."""
    path = expanded(read_text(raw))
    if not path.is_file():
        raise ValueError(f"is not a file: {path}")
    return path


def dask_cluster(raw: object) -> str:
    """Read where a Dask cluster is: the address or the file of its scheduler, or a number of workers."""
    text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else read_text(raw)
    if text.isascii() and text.isdecimal():
        workers = _integer(text)
        if workers is None or not 1 <= workers <= MOST_AT_ONCE:
            raise ValueError(f"must be a number of workers from 1 to {MOST_AT_ONCE}, not {text}")
        return str(workers)
    if _SCHEDULER.fullmatch(text):
        return text
    path = expanded(text)
    if not path.is_file():
        raise ValueError(
            "must be an address such as tcp://host:8786, a scheduler file, or a number of workers, "
            f"not {raw!r}"
        )
    return str(path)


def directory(raw: object) -> Path:
    """Read the path of a directory, which may not exist yet."""
    path = expanded(read_text(raw))
    if str(path).startswith("~"):
        raise ValueError(f"is {path}, and there is no such home directory")
    if path.exists() and not path.is_dir():
        raise ValueError(f"is not a directory: {path}")
    return path


def web_address(raw: object) -> str:
    """Read an http or https URL."""
    address = read_text(raw)
    if not is_web(address):
        raise ValueError(f"must begin with http:// or https://, not {raw!r}")
    if not origin_of(address).host:
        raise ValueError(f"must be a URL with a valid host, not {raw!r}")
    return address


def listen_address(raw: object) -> tuple[str, int]:
    """Read [HOST:]PORT: an IP address (127.0.0.1 if none is given; IPv6 in brackets) and a port."""
    host, _, port = (f"127.0.0.1:{raw}" if _integer(raw) is not None else str(raw)).rpartition(":")
    number = _integer(port)
    try:
        address = str(ip_address("127.0.0.1" if host == "localhost" else host.strip("[]")))
    except ValueError:
        number = None
    if number is None or not 0 <= number <= 65535 or (":" in host and host[:1] != "["):  # noqa: PLR2004 - ports
        raise ValueError(f"must be a port, or an IP address and a port, like 127.0.0.1:8080, not {raw!r}")
    return address, number


def access_token(raw: object) -> Secret:
    """Read a token of at least 16 characters, or @FILE with it."""
    token = read_text(raw).strip()
    token = _contents(token[1:]).strip() if token.startswith("@") else token
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"must have at least {_SHORTEST_TOKEN} characters")
    return Secret(token)


def spatial_extent(raw: object) -> tuple[float, ...]:
    """Read W,S,E,N in degrees (RFC 7946, 5: west may exceed east, across the antimeridian).

    Six numbers are a box with heights, W,S,low,E,N,high; the heights are not compared.
    """
    parts = raw.split(",") if isinstance(raw, str) else raw
    numbers = [_number(part) for part in parts] if isinstance(parts, list) else []
    if len(numbers) not in (4, 6) or None in numbers:
        raise ValueError(f"must be four numbers W,S,E,N (or six, with heights), not {raw!r}")
    sides = tuple(number for number in numbers if number is not None)
    west, south, east, north = flat(sides)
    if not (abs(west) <= 180 and abs(east) <= 180):  # noqa: PLR2004 - degrees
        raise ValueError("has a longitude outside of -180 to 180")
    if not -90 <= south <= north <= 90:  # noqa: PLR2004 - degrees
        raise ValueError("must have its latitudes in order, within -90 to 90: W,S,E,N")
    return sides


def item_ids(raw: object) -> tuple[str, ...]:
    """Read one item id, or with @FILE the ids in a file (`ids_in`)."""
    name = read_text(raw)
    if not name.startswith("@"):
        return (name,)
    import csv  # noqa: PLC0415 -- few runs have a list: 1 ms

    try:
        ids = ids_in(_contents(name[1:]))
    except csv.Error as problem:
        raise ValueError(f"finds no list of ids in {name[1:]}: {problem}") from problem
    if not ids:
        raise ValueError(f"finds no id in {name[1:]}")
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


def area(raw: object) -> str:
    """Read GeoJSON: text, a TOML table, or a file (@FILE, or its path alone)."""
    if isinstance(raw, dict):
        return json.dumps(raw, separators=(",", ":"))
    written = read_text(raw).strip()
    if _WKT.match(written):
        raise ValueError("must be GeoJSON (text, or a file with it), not WKT; --filter takes WKT")
    if not written.startswith(("{", "[")):
        written = _contents(written.removeprefix("@"))
    try:
        document = json.loads(written)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise ValueError(f"is not GeoJSON: {problem}") from problem
    return json.dumps(document, separators=(",", ":"))


def box_or_area(raw: object) -> str:
    """Read a box (W,S,E,N) or GeoJSON (text, a TOML table, or a file: @FILE or its path alone)."""
    is_box = isinstance(raw, list) or (isinstance(raw, str) and _BOX.match(raw))
    return _box_text(spatial_extent(raw)) if is_box else area(raw)


def _box_text(sides: Sequence[float]) -> str:
    return ",".join(map(repr, flat(sides)))


def expression(raw: object) -> str:
    """Read CQL2: text, JSON as text or as a TOML table, or a file (@FILE)."""
    if isinstance(raw, dict):
        return json.dumps(raw)
    written = read_text(raw).strip()
    if not written.startswith("@"):
        return written
    found = _contents(written[1:]).strip()
    if not found:
        raise ValueError(f"finds nothing in {written[1:]}")
    return found


def percentage(raw: object) -> float:
    """Read a number from 0 to 100, with or without a percent sign."""
    number = _number(raw.strip().removesuffix("%") if isinstance(raw, str) else raw)
    if number is None or not 0 <= number <= 100:  # noqa: PLR2004 - percent
        raise ValueError(f"must be a number from 0 to 100, not {raw!r}")
    return number


def shard(raw: object) -> tuple[int, int]:
    """Read I/N, the I-th of N parts; `auto` or `auto/N` for the part of this task of a job array."""
    number, _, count = read_text(raw).partition("/")
    first, last = _integer(number), _integer(count)
    if number == "auto" and (not count or (last is not None and last > 0)):
        return job_array_task(last)
    if first is None or last is None or not 1 <= first <= last:
        raise ValueError(f"must be I/N with I from 1 to N, not {raw!r}")
    return first, last


OF_THIS_MACHINE: Final[frozenset[Reader]] = frozenset(
    {existing_file, dask_cluster, directory, access_token, item_ids, area, box_or_area, expression, shard}
)
"""Readers of values that may be valid on another machine only: they read files, or the job array."""


def _contents(name: str) -> str:
    if not name.strip():
        raise ValueError("needs the name of a file after @")
    try:
        return expanded(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"cannot read {name}: it is not UTF-8 text") from problem
    except (OSError, ValueError) as problem:
        raise ValueError(f"cannot read {name}: {getattr(problem, 'strerror', None) or problem}") from problem


def _integer(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        number = raw
    else:
        plain = raw.strip() if isinstance(raw, str) else ""
        if not plain.isascii() or not plain.removeprefix("-").isdigit():
            return None
        number = int(plain) if len(plain) <= _LONGEST_INTEGER else LARGEST + 1
    if number > LARGEST:
        raise ValueError(f"must be at most {LARGEST}, not {raw!r}")
    return number


def _number(raw: object) -> float | None:
    if isinstance(raw, bool):
        return None
    try:
        number = float(raw)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# --- converters of Python arguments -----------------------------------------------------------------------


def named(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make a class name the argument that it refuses; pass it to attrs as `field_transformer`."""
    return [field.evolve(validator=_check, converter=_naming(field.converter)) for field in fields]


def _naming(convert: Any) -> Any:
    """Return a converter whose errors name the field."""

    def converted(value: object, field: attrs.Attribute[Any]) -> Any:
        try:
            return convert(value)
        except ValueError as problem:
            raise UsageError(f"{field.name} {problem}.") from problem

    return None if convert is None else attrs.Converter(converted, takes_field=True)


def _check(holder: object, field: attrs.Attribute[Any], value: object) -> None:
    kind: Any = type(holder)
    expected = _expected(hints(kind)[field.name], value)
    if expected is not None:
        raise UsageError(f"{field.name} must be {expected}, not {value!r}.")


@functools.cache
def hints(kind: Any) -> Mapping[str, Any]:
    """Return the types of the fields of a class, with what `Annotated` adds."""
    return get_type_hints(kind, include_extras=True)


def _expected(hint: Any, value: object) -> str | None:
    """Return the type that `hint`, the annotation of an argument, requires; None if `value` has it.

    Checks plain values, choices and classes of options; converters check everything else.
    """
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return None if value in kinds else f"one of {', '.join(map(repr, kinds))}"
    if get_origin(hint) is Annotated:
        least, most = kinds[1]
        if kinds[0] is float:
            fraction = None if isinstance(value, str) else _number(value)
            fits = fraction is not None and fraction >= least
            return None if fits else "a number " + ("above 0" if least else "of at least 0")
        number = getattr(value, "__index__", lambda: -1)()
        fits = least <= number <= most and not isinstance(value, bool)
        no_bound = most == LARGEST and number <= most
        return None if fits else f"an integer from {least} " + ("on" if no_bound else f"to {most:,}")
    if type(None) in kinds:
        rest = [kind for kind in kinds if kind is not type(None)]
        return None if value is None or len(rest) > 1 else _expected(rest[0], value)
    return _expected_of_class(hint, value)


_PLAIN: Final = {bool: "True or False", str: "text"}


def _expected_of_class(hint: Any, value: object) -> str | None:
    if hint is int:
        fits = abs(getattr(value, "__index__", lambda: math.inf)()) <= LARGEST and not isinstance(value, bool)
        return None if fits else "an integer of at most 63 bits"
    if hint is float:
        return None if _number(value) is not None and not isinstance(value, str) else "a number"
    if hint is str and isinstance(value, str):
        return None if _is_unicode(value) else "text in UTF-8"
    if hint in _PLAIN:
        return None if isinstance(value, hint) else _PLAIN[hint]
    if attrs.has(hint) and not isinstance(value, hint):
        return f"stacpull.{hint.__name__}(...)"
    return None


def instance(name: str, kind: type[Held], value: Held | None) -> Held:
    """Return `value`, or an instance with the defaults for None.

    Raises:
        UsageError: It is something else, such as a dict.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        package = kind.__module__.partition(".")[0]
        given = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise UsageError(f"{name} must be {package}.{kind.__name__}(...), not {given}.")
    return value


def _wrong(expected: str, value: object) -> ValueError:
    return ValueError(f"must be {expected}, not {value!r}")


def _unicode(value: str) -> str:
    if not _is_unicode(value):
        raise _wrong("text in UTF-8", value)
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return one text, several texts or None as a tuple."""
    if value is None:
        return ()
    several = (value,) if isinstance(value, str) else _listed(value)
    if several is None or not all(isinstance(given, str) and given for given in several):
        raise _wrong("text or a list of texts, none of them empty", value)
    return tuple(map(_unicode, several))


def where(value: str | Iterable[str] | Mapping[str, object] | None) -> tuple[str, ...]:
    """Return conditions as `property=value` texts; a mapping gives one for each of its entries."""
    if isinstance(value, Mapping):
        return tuple(
            f"{name}={one if isinstance(one, str) else json.dumps(one)}" for name, one in value.items()
        )
    return texts(value)


def integer(value: int) -> int:
    """Return `value` if it is an integer, of any library."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _wrong("an integer", value)
    return value.__index__()


def ratio(value: float | None) -> float | None:
    """Return `value` if it is None or a finite number."""
    number = _number(value)
    if number is None and value is not None:
        raise _wrong("a number", value)
    return number


def pair(value: tuple[int, ...] | str) -> tuple[int, ...]:
    """Return a shard (I, N) from a tuple, a list or text such as "1/4" or "auto"."""
    if isinstance(value, str):
        return shard(value)
    try:
        number, count = (int(part) for part in _listed(value) or ())
    except (TypeError, ValueError):
        raise _wrong("(I, N), the I-th of N parts", value) from None
    if not 1 <= number <= count <= LARGEST:
        raise _wrong("(I, N) with I from 1 to N", value)
    return number, count


def box(value: str | Iterable[float]) -> tuple[float, ...]:
    """Return a box of four or six numbers (west, south, east, north; with heights) in degrees."""
    return spatial_extent(value if isinstance(value, str) else list(_listed(value) or ()))


def interval(value: Interval) -> str:
    """Return a time or a (start, end) of times as STAC writes it; None is an open end."""
    ends = [".." if end is None else _time(end) for end in value] if isinstance(value, tuple | list) else []
    if ends and (len(ends) != 2 or None in ends or ends == ["..", ".."]):  # noqa: PLR2004 - a start and an end
        raise _wrong("a date, or (start, end) of dates", value)
    found = "/".join(map(str, ends)) or _time(value)
    if found is None:
        raise _wrong("a date, a datetime, text, or (start, end) of those", value)
    return found


def _time(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return rfc3339(moment.astimezone(UTC))
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
    raise _wrong("GeoJSON (text or a dict) or a shapely geometry", value)


def clip(value: str | Iterable[float] | Mapping[str, Any] | Geometry | None) -> str | None:
    """Return an area as text, from GeoJSON (text or a mapping), a geometry, or a box of four numbers.

    No file is read: the text may come from a ledger.
    """
    is_json = isinstance(value, str) and value.lstrip().startswith("{")
    if value is None or is_json or isinstance(value, Mapping) or hasattr(value, "__geo_interface__"):
        return geometry(value)  # type: ignore[arg-type] # narrowed
    sides = value if isinstance(value, str) else list(_listed(value) or ())
    try:
        return _box_text(spatial_extent(sides))
    except ValueError:
        raise _wrong("four numbers (west, south, east, north) or GeoJSON", value) from None


def header_fields(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    """Return header fields with their values as secrets."""
    fields = secrets(value)
    for name in fields:
        field_name(name)
    return fields


def secrets(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    """Return names and their values as secrets."""
    given: object = {} if value is None else value
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(one, str | Secret) for name, one in given.items()
    ):
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise _wrong("a dict of names and texts", shown)
    return {name: one if isinstance(one, Secret) else Secret(one) for name, one in given.items()}


def file_path(value: str | PathLike[str]) -> Path:
    """Return a path with `~` expanded."""
    try:
        return Path(value).expanduser()
    except (TypeError, RuntimeError):
        raise _wrong("a path", value) from None


def listening(value: str | int | tuple[str, int]) -> tuple[str, int]:
    """Return the address and port of a server, from text, a port, or both."""
    match value:
        case (str(host), port):
            return listen_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        case _:
            return listen_address(value)


def cluster(value: str | int | Path) -> str:
    """Return where a Dask cluster is, as text."""
    return dask_cluster(str(value) if isinstance(value, Path) else value)


def token(value: str | Secret | None) -> Secret | None:
    """Return a token as a secret."""
    if value is None or isinstance(value, Secret):
        return value
    given: object = value
    if isinstance(given, str) and len(given) >= _SHORTEST_TOKEN:
        return Secret(given)
    raise _wrong(f"text of at least {_SHORTEST_TOKEN} characters", "***")


def _listed(value: object) -> tuple[Any, ...] | None:
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return tuple(value)
    return None
