"""Read the values of options, wherever they are written: command line, environment, TOML or Python.

A *reader* converts such a value for `Selection` or `Options`, and accepts its own results. For an invalid
value, it raises ValueError; the message has no subject ("must be ..."). A reader never opens a file, because
the value may come from a ledger that someone else wrote. `Option.load` opens files named by options.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from ipaddress import ip_address
from operator import methodcaller
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stacpull.boxes import to_2d
from stacpull.clock import in_utc, parse_interval, rfc3339
from stacpull.errors import UsageError, why_unreadable
from stacpull.hosts import HIGHEST_PORT, origin_of
from stacpull.json_values import is_unicode
from stacpull.redact import Secret
from stacpull.schemes import remote_schemes, scheme_named
from stacpull.system import expand_user, job_array_task
from stacpull.urls import is_web

Held = TypeVar("Held")
ValueReader = Callable[[Any], Any]

MAX_CONCURRENCY = 4096  # more transfers need more open files than systems allow
MAX_INTEGER = 2**63 - 1  # the largest integer that a ledger stores
ABOVE_ZERO = math.nextafter(0, 1)

Time = str | date | datetime  # text has the forms of `--datetime`; naive times are UTC
TimeOrInterval = Time | tuple[Time | None, Time | None] | list[Time | None]


class Geometry(Protocol):
    @property
    def __geo_interface__(self) -> Mapping[str, Any]:
        """The geometry as a GeoJSON object."""


def instance_of(kind: type[Held], value: object) -> Held:
    if isinstance(value, kind):
        return value
    actual = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    raise ValueError(f"must be {kind.__module__.partition('.')[0]}.{kind.__name__}(...), not {actual}")


def or_default(name: str, kind: type[Held], value: Held | None) -> Held:
    if value is None:
        return kind()
    return read_as(name, partial(instance_of, kind), value)


def read_as(name: str, read: Callable[[Any], Held], value: Any) -> Held:
    """Return what a reader makes of a value; its error names the argument, option or line."""
    try:
        return read(value)
    except TypeError as problem:  # of NumPy's arrays, and of pandas' NA
        raise UsageError(f"{name} has the wrong type: {problem}.") from problem
    except ValueError as problem:
        raise UsageError(f"{name} {problem}.") from problem


_FLAGS = dict.fromkeys(("true", "yes", "on", "1"), True)
_FLAGS |= dict.fromkeys(("false", "no", "off", "0"), False)
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # never in a field value (RFC 9110, 5.5)
_CONTROL_FIELDS = frozenset(  # they control the connection, the framing or the requested part
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"}
    | {"proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)
_MIN_TOKEN_LENGTH = 16


def _invalid(expected: str, value: object) -> ValueError:
    return ValueError(f"must be {expected}, not {value!r}")


def read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise _invalid("text in quotes", raw)
    if not raw.strip():
        raise ValueError("must not be empty")
    if not is_unicode(raw):
        raise _invalid("text in UTF-8", raw)
    return str.__str__(raw)  # also of an enum of texts


def read_switch(raw: Any) -> bool:
    value = raw.item() if hasattr(raw, "item") else raw  # NumPy's
    if isinstance(value, str):
        value = _FLAGS.get(value.strip().lower())
    if not isinstance(value, bool):
        raise _invalid("true or false", raw)
    return value


def choice(*allowed: str) -> ValueReader:
    def read(raw: object) -> str:
        if raw not in allowed:
            raise _invalid(f"one of {', '.join(allowed)}", raw)
        return str.__str__(raw)

    return read


def read_prune(raw: object) -> str | None:
    if isinstance(raw, bool):
        return "list" if raw else None
    return str(choice("list", "remove")(raw))


def read_texts(value: str | Iterable[str] | None) -> tuple[str, ...]:
    texts = _as_tuple(value)
    if texts is None or not all(isinstance(text, str) and text for text in texts):
        raise _invalid("text or a list of texts, none of them empty", value)
    return tuple(map(read_text, texts))


def _as_tuple(value: object) -> tuple[Any, ...] | None:
    """Return the elements of a list, or one text as such a list; None for other types."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, set | frozenset):
        return tuple(sorted(value, key=repr))  # the same order in every process, so that runs can resume
    is_table = isinstance(value, Mapping) or hasattr(value, "columns")  # of pandas
    if is_table or isinstance(value, bytes) or not isinstance(value, Iterable):
        return None
    return tuple(value)


def read_where(value: str | Iterable[str] | Mapping[str, object] | None) -> tuple[str, ...]:
    """Read conditions as `property=value`; values of a list, or of the same property, are alternatives."""
    if isinstance(value, Mapping):
        value = _conditions_in(value)
    conditions = read_texts(value)
    for condition in conditions:
        name, sign, wanted = map(str.strip, condition.partition("="))
        is_other = re.search(r"[<>!]\Z", name) or re.match("[=<>]", wanted)
        if not sign or not name or is_other:
            raise ValueError(f"must be PROPERTY=VALUE, not {condition!r}; --filter has other comparisons")
    return conditions


def _conditions_in(given: Mapping[Any, object]) -> list[str]:
    conditions = []
    for name, wanted in given.items():
        listed = _as_tuple(wanted)
        values = (wanted,) if listed is None else listed
        if not isinstance(name, str) or "=" in name or not values:
            raise _invalid("properties and their values, with names without =, and no empty lists", given)
        for element in values:
            if isinstance(element, str):
                text = str.__str__(element)
            elif isinstance(element, bool) or finite_number(element) is not None:
                text = str(element).lower()
            else:
                raise _invalid("a string, number or boolean, or a list of these", element)
            conditions.append(f"{name}={text}")
    return conditions


def read_ids(value: str | PathLike[str] | Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(value, PathLike):
        return load_ids(f"@{fspath(value)}")
    ids = read_texts(value)
    if not ids and value is not None and not isinstance(value, tuple):
        raise ValueError("must not be an empty list")
    for text in ids:
        path = text.removeprefix("@")
        if path != text or (isinstance(value, str) and os.path.isfile(text)):  # noqa: PTH113 - it never fails
            raise ValueError(f"must be item ids: to read a file, use pathlib.Path({path!r})")
    return ids


def read_schemes(value: str | Iterable[str] | None) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else _as_tuple(value)
    names = [str(part).strip().lower() for part in parts or ()]
    if parts is None or not all(scheme_named(name).is_remote for name in names):
        allowed = ", ".join(sorted(remote_schemes()))
        raise ValueError(f"must be one or more of {allowed}, separated by commas, not {value!r}")
    return tuple(dict.fromkeys(names))


def read_field_name(raw: object) -> str:
    name = read_text(raw)
    if not FIELD_NAME.fullmatch(name):
        raise _invalid("the name of a header field", name)
    if name.lower() in _CONTROL_FIELDS:
        raise ValueError(f"must not be the header field {name}, which controls the connection")
    return name


def read_secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def read_secrets(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    fields: Any = {} if value is None else value
    is_dict = isinstance(fields, Mapping) and all(isinstance(name, str) for name in fields)
    if not is_dict or not all(isinstance(field, str | Secret) for field in fields.values()):
        raise ValueError("must be a dict of names and texts")  # without the values, which may be secrets
    return {name: read_secret(field) for name, field in fields.items()}


def read_keys(value: Any) -> tuple[Secret, ...]:
    match value:
        case [str() | Secret(), str() | Secret()]:
            return tuple(map(read_secret, value))
    raise ValueError("must be an access key and a secret key")  # without the values


def read_header_fields(value: Mapping[str, str | Secret] | None) -> Mapping[str, Secret]:
    fields = {read_field_name(name): field for name, field in read_secrets(value).items()}
    for name, field in fields.items():
        if CONTROL.search(field.reveal()):
            raise ValueError(f"has a line break, a control character or invalid UTF-8 in the value of {name}")
    return fields


def read_expression(value: str | PathLike[str] | Mapping[str, Any]) -> str:
    if isinstance(value, Mapping):
        return _as_json(value)
    written = load_content(f"@{fspath(value)}") if isinstance(value, PathLike) else read_text(value)
    return written.strip()


def _as_json(document: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else dict(value)  # NumPy's, or some mapping

    try:
        return json.dumps(document, separators=(",", ":"), default=plain)
    except (TypeError, ValueError, RecursionError) as problem:
        raise _invalid("serializable as JSON", document) from problem


def read_token(value: str | Secret) -> Secret:
    token = value
    if not isinstance(token, Secret):
        token = Secret(str(value).strip())
    if len(token.reveal()) < _MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {_MIN_TOKEN_LENGTH} characters")
    return token


_MULTIPLES = {"K": 1e3, "M": 1e6, "G": 1e9}
_DURATION = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in "dhms"))
_UNIT_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


def integer(minimum: int = -MAX_INTEGER, maximum: int = MAX_INTEGER, *, auto: bool = False) -> ValueReader:
    """Return a reader of whole numbers within bounds; with `auto`, that word is read as None."""
    expected = f"a whole number from {minimum} to {maximum}"
    if minimum == -MAX_INTEGER:
        expected = "a whole number between -2**63 and 2**63"
    elif maximum == MAX_INTEGER:
        expected = f"a whole number of {minimum} or more"
    if not auto:
        return number(expected, minimum, maximum, _as_integer)
    read = number(f"auto or {expected}", minimum, maximum, _as_integer)
    return lambda raw: None if isinstance(raw, str) and raw == "auto" else read(raw)


def _as_integer(raw: object) -> int | None:
    if isinstance(raw, str) and re.fullmatch(r"\s*-?[0-9]{1,100}\s*", raw):
        whole = int(raw)
    elif hasattr(raw, "__index__") and not isinstance(raw, bool):
        whole = raw.__index__()
    else:
        return None
    return whole if abs(whole) <= MAX_INTEGER else None


def finite_number(raw: Any) -> float | None:
    if isinstance(raw, bool) or "_" in str(raw):
        return None
    try:
        value = float(raw)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _bytes(raw: object) -> float | None:
    text = str(raw).strip()
    factor = _MULTIPLES.get(text[-1:].upper())
    if factor is None:
        return finite_number(raw)
    count = finite_number(text[:-1])
    return None if count is None else finite_number(count * factor)


def _seconds(raw: object) -> float | None:
    if hasattr(raw, "total_seconds"):
        return finite_number(raw.total_seconds())
    match = _DURATION.fullmatch(str(raw).strip().lower())
    if match is None or not match[0]:
        return finite_number(raw)
    parts = zip(match.groups(default="0"), _UNIT_SECONDS, strict=True)
    return finite_number(sum(float(number) * unit for number, unit in parts))


def number(
    expected: str,
    minimum: float,
    maximum: float = math.inf,
    convert: Callable[[object], float | None] = finite_number,
) -> Callable[[object], float]:
    """Return a reader of finite numbers within bounds; `expected` describes them in the error."""

    def read(raw: object) -> float:
        value = convert(raw)
        if value is None or not minimum <= value <= maximum:
            raise _invalid(expected, raw)
        return value

    return read


read_seconds = number("a number of seconds above 0, like 30 or 5m", ABOVE_ZERO, convert=_seconds)
read_rate = number("a number of at least 0 (0: no limit)", 0)
read_duration = number("a time like 3h50m or 90m, or a number of seconds (0: no limit)", 0, convert=_seconds)
read_byte_rate = number("a number of bytes per second, like 500K or 2M", 0, convert=_bytes)
read_percentage = number(
    "a number from 0 to 100", 0, 100, lambda raw: finite_number(str(raw).strip().removesuffix("%"))
)


def read_byte_count(raw: object) -> int:
    return int(number("a number of bytes, like 500M or 2G", 1, MAX_INTEGER / 2, _bytes)(raw))


def read_order(raw: object) -> str:
    written = raw.strip().removeprefix("+") if isinstance(raw, str) else ""
    name = written.removeprefix("-").strip()
    if not name or re.search(r"[\s,]|:(asc|desc)\Z", name):
        raise _invalid("a property such as datetime, or -datetime for the newest items first", raw)
    sign = "-" if written.startswith("-") else ""
    return sign + name.removeprefix("properties.")


def read_shard(value: str | Sequence[int]) -> tuple[int, int]:
    """Read I/N, the I-th of N parts; `auto` or `auto/N` is the part of this task of a job array."""
    pair = value.partition("/")[::2] if isinstance(value, str) else _as_tuple(value)
    match pair:
        case ["auto", ""]:
            return job_array_task(None)
        case [part, parts]:
            number = _as_integer(part)
            count = _as_integer(parts)
            if part == "auto" and count is not None and count > 0:
                return job_array_task(count)
            if number is not None and count is not None and 1 <= number <= count:
                return number, count
    raise _invalid("I/N with I from 1 to N", value)


_BOX = re.compile(r"[-+0-9.,eE\s]+\Z")
_AREA = re.compile(rf"\s*[{{\[]|{_BOX.pattern}")  # GeoJSON or a box


def read_bbox(value: str | Iterable[float]) -> tuple[float, ...]:
    """Read W,S,E,N in degrees, or with heights W,S,low,E,N,high (RFC 7946, 5: west may exceed east)."""
    parts = value.split(",") if isinstance(value, str) else _as_tuple(value) or ()
    sides = tuple(side for side in map(finite_number, parts) if side is not None)
    if len(sides) == len(parts) and len(sides) in (4, 6):
        box = to_2d(sides)
        for side, limit, what in zip(box, (180, 90) * 2, ("longitude", "latitude") * 2, strict=True):
            if abs(side) > limit:
                raise ValueError(f"has {side:.10g}, which is not a {what}: use degrees, -{limit} to {limit}")
        if box.south > box.north:
            raise ValueError(f"has S {box.south:.10g} above N {box.north:.10g}: swap them")
        return sides
    raise _invalid("four numbers W,S,E,N in degrees (or six, with heights), with commas", value)


def read_geometry(value: str | PathLike[str] | Mapping[str, Any] | Geometry) -> str:
    document = getattr(value, "__geo_interface__", value)
    if isinstance(document, PathLike):
        document = load_area(f"@{fspath(document)}")
    if isinstance(document, str):
        written = read_text(document).strip()
        if not written.startswith(("{", "[")):
            path = written[:80].removeprefix("@")
            hint = f": to read a file, use pathlib.Path({path!r})" if re.search("^@|json$", written) else ""
            raise ValueError(f"must be GeoJSON, not {written[:80]!r}{hint}")
        try:
            document = json.loads(document)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"is not GeoJSON: {error}") from error
    if isinstance(document, Mapping):
        return _as_json(document)
    raise _invalid("GeoJSON (text, a dict or a Path) or a shapely geometry", value)


def read_clip(value: str | PathLike[str] | Iterable[float] | Mapping[str, Any] | Geometry) -> str:
    is_box = _BOX.match(value) if isinstance(value, str) else _as_tuple(value) is not None
    if is_box and not hasattr(value, "__geo_interface__"):
        return ",".join(map(repr, to_2d(read_bbox(value))))  # type: ignore[arg-type] # narrowed
    return read_geometry(value)  # type: ignore[arg-type] # narrowed


def read_interval(value: TimeOrInterval) -> str:
    """Read a time or a (start, end) of times, as STAC writes it; None is an open end."""
    match value:
        case [start, end]:
            times = [_time(start), _time(end)]
        case _:
            times = [_time(value)]
    if None in times:
        raise _invalid("a date, a datetime, text, or a (start, end) pair", value)
    written = "/".join(map(str, times))
    parse_interval(written)
    return written


def _time(value: object) -> str | None:
    if value is None:
        return ".."
    if isinstance(value, str) or hasattr(value, "item"):  # NumPy's
        return read_text(str(value))
    if isinstance(value, datetime) and isinstance(value.year, int):  # not pandas' NaT
        return rfc3339(in_utc(value if value.tzinfo is not None else value.replace(tzinfo=UTC)))
    return value.isoformat() if isinstance(value, date) else None


_SCHEDULER = re.compile(r"(?:[a-z]+://)?[^/\s]+:[0-9]{1,5}")


def read_path(value: str | PathLike[str]) -> Path:
    if isinstance(value, PathLike):
        value = fspath(value)
    path = expand_user(read_text(value))
    if str(path).startswith(("~", "$")):  # no such user, or a variable that no shell has replaced
        raise ValueError(f"is {path}: write the whole path, or ./{path} for this name")
    return path


def read_web_address(raw: object) -> str:
    address = read_text(raw)
    if not is_web(address):
        raise ValueError(f"must begin with http:// or https://, not {raw!r}")
    if not origin_of(address).host:
        raise _invalid("a URL with a valid host", raw)
    return address


def read_listen_address(value: str | int | tuple[str, int]) -> tuple[str, int]:
    """Read [HOST:]PORT: an IP address (127.0.0.1 if none is given; IPv6 in brackets) and a port."""
    raw = f"[{value[0]}]:{value[1]}" if isinstance(value, tuple) else str(value)
    host, _, port = raw.rpartition(":")
    name = host.strip("[]")
    if name in ("", "localhost"):
        name = "127.0.0.1"
    with suppress(ValueError):
        address = str(ip_address(name))
        number = integer(0, HIGHEST_PORT)(port)
        if host != name or ":" not in name:  # an IPv6 address has brackets
            return address, number
    raise _invalid("a port, or an IP address and a port, like 127.0.0.1:8080", value)


def read_cluster(value: str | int | Path) -> str:
    """Read where a Dask cluster is: the address or the file of its scheduler, or a number of workers."""
    is_plain = isinstance(value, int | Path) and not isinstance(value, bool)
    address = str(value) if is_plain else read_text(value)
    if address.isascii() and address.isdecimal():
        return str(integer(1, MAX_CONCURRENCY)(address))
    if _SCHEDULER.fullmatch(address):
        return address
    path = expand_user(address)
    if not path.is_file():
        raise _invalid("an address such as tcp://host:8786, a scheduler file, or a number of workers", value)
    return str(path)


def _load_path(is_valid: Callable[[Path], bool], problem: str, raw: str) -> str:
    path = read_path(raw)
    if not is_valid(path):
        raise ValueError(f"is {problem}: " + str(path).split("\n")[0])  # perhaps the content of a file
    return str(path)


load_file = partial(_load_path, methodcaller("is_file"), "not a file")
load_directory = partial(_load_path, methodcaller("is_dir"), "not a directory")


def load_content(raw: str, *, hint: str = "") -> str:
    name = raw.strip().removeprefix("@")
    if name == raw.strip():
        return raw
    if not name.strip():
        raise ValueError("needs the name of a file after @")
    try:
        written = expand_user(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as problem:
        raise ValueError(f"cannot read {name}: {why_unreadable(problem)}{hint}") from problem
    if not written.strip():
        raise ValueError(f"cannot use {name}: the file is empty")
    return written


def load_area(raw: str) -> str:
    """Return the content of @FILE or of a bare path; other text is GeoJSON or a box."""
    written = raw.strip()
    if not written or _AREA.match(written):
        return written
    name = written.removeprefix("@")
    advice = "give GeoJSON (ogr2ogr -t_srs EPSG:4326 area.geojson FILE converts others)"
    content = load_content(f"@{name}", hint=f"; {advice}")
    if not _AREA.match(content):
        raise ValueError(f"cannot use {name}: {advice}")
    return content


def load_ids(raw: str) -> tuple[str, ...]:
    """Return one item id, or those in @FILE: lines, the first column of a table, or a JSON list."""
    if not raw.startswith("@"):
        if os.path.isfile(expand_user(raw.strip())):  # noqa: PTH113 - never an error, also for a long text
            raise ValueError(f"names a file: to read it, use @{raw.strip()}")
        return (read_text(raw),)
    content = load_content(raw, hint="; give text with one id per line").strip()
    lines = [line.strip() for line in content.splitlines() if not line.lstrip().startswith("#")]
    rows = [re.split("[\t;,]", line) for line in lines if line]
    if content.startswith("["):
        try:
            cells = list(map(str, json.loads(content)))
        except json.JSONDecodeError as error:
            raise ValueError(f"cannot use {raw[1:]}: its list is not valid JSON ({error})") from error
    elif len(rows) == 1 and len(rows[0]) > 1:  # ids, or an id and other values
        raise ValueError(f"cannot use {raw[1:]}: its only line has several values; write one id per line")
    else:
        column = 1 if rows and not rows[0][0] else 0  # pandas writes an index first, without a name
        cells = [row[column] for row in rows[column:] if len(row) > column]
    texts = [cell.strip(' "') for cell in cells]
    ids = tuple(dict.fromkeys(filter(None, texts)))
    if ids and ids[0].lower() in {"id", "item_id", "patch_id", "patch"}:  # the header of a table
        ids = ids[1:]
    if not ids:
        raise ValueError(f"finds no id in {raw[1:]}")
    return ids
