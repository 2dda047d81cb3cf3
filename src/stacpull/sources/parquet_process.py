"""Decodes a Parquet file of items (stac-geoparquet 1.0 and 1.1) in a process of its own.

`python -m stacpull.sources.parquet_process` gets one task on standard input: the URL and size of the file,
and, unless only the metadata are wanted, rows per batch and limits (`parquet_source`). It answers with
frames: four bytes of length, then JSON. It asks for bytes of the file the same way, and gets them on standard
input. It has no credentials and a memory limit, which also stops decompression bombs.

The metadata have the lowest and highest value of each column in each row group. pyarrow skips the row groups
in which, by these, no row is within the limits. Every row that is read is still judged by the filters. A
column of another type, or with texts that are JSON, limits nothing.
"""

from __future__ import annotations

import io
import math
import resource
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import shapely

from stacpull.json_values import list_or_empty, object_or_empty, objects_in, parsed_object
from stacpull.models import Json
from stacpull.planning.hrefs import with_absolute_href
from stacpull.pyarrow_import import hide_pandas

MEMORY: Final = 2 << 30
"""The memory limit of the process in bytes. The libraries reserve half of it."""
_FOOTER_LIMIT: Final = 32 << 20
_ANSWER_LIMIT: Final = 16 << 20
"""The most bytes of JSON in one answer. A larger batch of items is divided; a larger item is refused."""
_JSON_TEXT_KEY: Final = b"stacpull:json_text"
"""Metadata of files written by `export`: `{"columns": [...]}`, the columns that contain JSON text."""
_MEMBERS: Final = frozenset(
    {"type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection",
     "properties"}
)  # fmt: skip
_FLAT, _WITH_HEIGHT = ("xmin", "ymin", "xmax", "ymax"), ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
_RENAMED: Final = "properties:"
_EDGE: Final = 180.0
_SINGLE: Final = 2.0**-23
"""The largest error of a number that was rounded or cut to single precision, as a share of it."""


class ParquetError(Exception):
    """A file is not Parquet with items, or exceeds a limit. The text states which."""


class _FileOverPipe(io.RawIOBase):
    """The file, read through the other process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._place = 0
        self.end = b""
        """The last bytes of the file, which pyarrow reads several times."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def size(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        rest = self._size - self._place
        wanted = rest if size < 0 else max(0, min(size, rest))
        if not wanted:
            return b""
        if not 0 <= self._place < self._size:
            raise OSError("a read outside of the file")
        if rest <= len(self.end):
            data = self.end[-rest:][:wanted]
        else:
            _answer({"read": [self._place, wanted]})
            data = sys.stdin.buffer.read(wanted)
        self._place += len(data)
        return data


def main() -> None:
    """Do the task on standard input. The last answer is `{"end": true}` or `{"error": TEXT}`."""
    hide_pandas()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    task = orjson.loads(sys.stdin.buffer.readline())
    try:
        _do(task)
        _answer({"end": True})
    except ParquetError as error:
        _answer({"error": str(error)})
    except MemoryError:
        _answer({"error": f"decoding it needs more than {MEMORY:,} bytes of memory"})
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        _answer({"error": f"it cannot be decoded: {text}"})


def _do(task: Json) -> None:
    file = _FileOverPipe(task["size"])
    _check_end(file)
    parquet = pq.ParquetFile(file, pre_buffer=True)
    schema, stated = parquet.schema_arrow, parquet.metadata.metadata or {}
    if missing := {"id", "geometry", "assets"} - set(schema.names):
        raise ParquetError(f"it contains no items: it has no column {min(missing)}")
    geo = object_or_empty(_json_of(stated.get(b"geo")).get("columns"))
    encoding = object_or_empty(geo.get("geometry")).get("encoding", "WKB")
    if encoding != "WKB":
        raise ParquetError(f"its geometries are encoded as {encoding}; only WKB is read")
    _answer({"collections": _collections(stated)})
    if "rows" not in task:
        return
    json_text = frozenset(map(str, list_or_empty(_json_of(stated.get(_JSON_TEXT_KEY)).get("columns"))))
    for group in _groups(file, parquet, _condition(task["limits"], schema, json_text)):
        first = 0
        for batch in parquet.iter_batches(task["rows"], row_groups=[group], use_threads=False):
            _answer_items(group, first, _items(batch, task["url"], json_text))
            first += batch.num_rows


def _check_end(file: _FileOverPipe) -> None:
    """Refuse what is not Parquet, before pyarrow reads the metadata."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    end = file.read()
    length = int.from_bytes(end[:4], "little") + 8
    if end[4:] == b"PARE":
        raise ParquetError("it is an encrypted Parquet file")
    if end[4:] != b"PAR1":
        raise ParquetError("it is not a Parquet file")
    if length > _FOOTER_LIMIT:
        raise ParquetError(f"its footer has {length:,} bytes; at most {_FOOTER_LIMIT:,} are read")
    if length + 4 > size:
        raise ParquetError("its footer is longer than the file")
    file.seek(size - length)
    file.end = file.read()


def _groups(file: _FileOverPipe, parquet: pq.ParquetFile, condition: ds.Expression | None) -> Sequence[int]:
    """Return the numbers of the row groups that may have rows within the limits."""
    everything = range(parquet.metadata.num_row_groups)
    if condition is None or not everything:
        return everything
    fragment = ds.ParquetFileFormat().make_fragment(pa.PythonFile(file, mode="r"))
    return [group.id for group in fragment.subset(condition).row_groups]


def _answer_items(group: int, first: int, items: list[Json]) -> None:
    data = _json({"items": [group, first, items]})
    if len(data) <= _ANSWER_LIMIT:
        _send(data)
    elif len(items) == 1:
        raise ParquetError(f"an item has {len(data):,} bytes of JSON; at most {_ANSWER_LIMIT:,} are read")
    else:
        half = len(items) // 2
        _answer_items(group, first, items[:half])
        _answer_items(group, first + half, items[half:])


def _answer(document: Json) -> None:
    _send(_json(document))


def _json(document: Json) -> bytes:
    return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS)


_SENDING: Final = threading.Lock()
"""pyarrow reads the file in threads of its own."""


def _send(data: bytes) -> None:
    with _SENDING:
        sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
        sys.stdout.buffer.flush()


def _collections(stated: dict[bytes, bytes]) -> dict[str, Json]:
    """Return the collections in the metadata, in the form of stac-geoparquet 1.0 or 1.1."""
    document = _json_of(stated.get(b"stac-geoparquet"))
    found = document.get("collections") or _json_of(stated.get(b"stac:collections"))
    one = document.get("collection")
    if isinstance(one, dict) and isinstance(one.get("id"), str) and not found:
        found = {one["id"]: one}
    return {name: body for name, body in object_or_empty(found).items() if isinstance(body, dict)}


def _json_of(data: bytes | None) -> Json:
    return parsed_object(data or b"{}") or {}


# --- limits -----------------------------------------------------------------------------------------------


def _condition(limits: Json, schema: pa.Schema, json_text: frozenset[str]) -> ds.Expression | None:
    """Return what every row within the limits fulfils; None for no limits."""
    kinds = {field.name: field.type for field in schema if field.name not in json_text}
    parts: list[ds.Expression | None] = []
    if limits.get("collections") and _is_text(kinds.get("collection")):
        named = [ds.field("collection") == name for name in limits["collections"]]
        parts.append(_any([*named, ds.field("collection").is_null()]))
    box = kinds.get("bbox", pa.null())
    if limits.get("boxes") and pa.types.is_struct(box) and {field.name for field in box} >= set(_FLAT):
        parts.append(_any([_meets(*sides) for sides in limits["boxes"]]))
    if limits.get("interval"):
        start, end = limits["interval"]
        parts.append(_overlaps(start, end, kinds))
    if limits.get("condition"):
        parts.append(_compared(limits["condition"], kinds))
    known = [part for part in parts if part is not None]
    return reduce(lambda all_of, one: all_of & one, known) if known else None


def _any(parts: Sequence[ds.Expression]) -> ds.Expression:
    return reduce(lambda any_of, one: any_of | one, parts)


def _meets(west: float, south: float, east: float, north: float) -> ds.Expression:
    """Return the condition for boxes that may meet this one (GeoParquet 1.1, "covering").

    A box may have single precision, and not all writers round its sides outwards. One whose west exceeds its
    east crosses the antimeridian; the filter handles longitudes beyond 180 degrees.
    """
    xmin, ymin, xmax, ymax = (ds.field("bbox", name) for name in _FLAT)

    def above(number: float) -> float:
        return number + abs(number) * 2 * _SINGLE

    def below(number: float) -> float:
        return number - abs(number) * 2 * _SINGLE

    is_odd = ((xmin >= 0.0) & (xmax <= 0.0)) | (xmin < -_EDGE) | (xmax > _EDGE)
    in_x = (xmin <= above(east)) & (xmax >= below(west))
    in_y = (ymin <= above(north)) & (ymax >= below(south))
    return (in_y & (in_x | is_odd)) | xmin.is_null() | ymin.is_null() | xmax.is_null() | ymax.is_null()


def _overlaps(start: str | None, end: str | None, kinds: dict[str, pa.DataType]) -> ds.Expression | None:
    """Return the condition for rows whose instant, or else range, may overlap an interval."""
    names = ("datetime", "start_datetime", "end_datetime")
    if not pa.types.is_timestamp(kinds.get("datetime", pa.null())):
        return None

    def compared(name: str, *, is_low: bool) -> ds.Expression:
        """Return whether a time is not before the start (`is_low`), or not after the end; or unknown."""
        text, field, kind = (start if is_low else end), ds.field(name), kinds[name]
        if text is None:
            return ds.scalar(True)
        limit = pa.scalar(datetime.fromisoformat(text), pa.timestamp("us", "UTC")).cast(
            pa.timestamp("us", kind.tz)
        )
        return (field >= limit if is_low else field <= limit) | field.is_null()

    instant = compared("datetime", is_low=True) & compared("datetime", is_low=False)
    known = ds.field("datetime").is_valid()
    if all(pa.types.is_timestamp(kinds.get(name, pa.null())) for name in names[1:]):
        ranges = compared("end_datetime", is_low=True) & compared("start_datetime", is_low=False)
        return (known & instant) | (ds.field("datetime").is_null() & ranges)
    return instant


def _compared(condition: Json, kinds: dict[str, pa.DataType]) -> ds.Expression | None:
    """Return a condition in CQL2 as far as the columns show whether it is true; None if they do not."""
    name, arguments = condition["op"], condition["args"]
    if name in {"and", "or"}:
        parts = [_compared(argument, kinds) for argument in arguments]
        known = [part for part in parts if part is not None]
        if name == "and":
            return reduce(lambda all_of, one: all_of & one, known) if known else None
        return _any(known) if len(known) == len(parts) else None
    if name not in {"=", "<", "<=", ">", ">="}:
        return None
    column, value = arguments[0]["property"], arguments[1]
    kind = kinds.get(column, pa.null())
    is_exact = (
        (isinstance(value, bool) and pa.types.is_boolean(kind))
        or (isinstance(value, str) and _is_text(kind))
        or (type(value) is int and pa.types.is_integer(kind))
        or (type(value) in {int, float} and pa.types.is_float64(kind) and abs(value) <= 2**53)
    )
    if not is_exact:
        return None
    field = ds.field(column)
    tests = {"=": field.__eq__, "<": field.__lt__, "<=": field.__le__, ">": field.__gt__, ">=": field.__ge__}
    return tests[name](pa.scalar(value, kind if pa.types.is_float64(kind) else None))


def _is_text(kind: pa.DataType | None) -> bool:
    return kind in (pa.string(), pa.large_string())


# --- rows -------------------------------------------------------------------------------------------------


def _items(batch: pa.RecordBatch, url: str, json_text: frozenset[str]) -> list[Json]:
    columns = {
        field.name: _column(batch.column(index), field.name, is_json=field.name in json_text)
        for index, field in enumerate(batch.schema)
    }
    properties = {name: values for name, values in columns.items() if name not in _MEMBERS}
    items = []
    for row in range(batch.num_rows):
        item = {name: columns[name][row] for name in _MEMBERS & columns.keys()}
        found = dict(object_or_empty(item.pop("properties", None)))
        for name, values in properties.items():
            if (value := values[row]) is not None:
                found[name.removeprefix(_RENAMED) if name[len(_RENAMED) :] in _MEMBERS else name] = value
        found.setdefault("datetime", None)
        items.append(_item(item, found, url))
    return items


def _item(members: Json, properties: Json, url: str) -> Json:
    """Return the item with these members, which may be null, and properties."""
    assets = object_or_empty(members.get("assets"))
    item: Json = {
        "type": "Feature",
        "stac_version": members.get("stac_version") or "1.0.0",
        "stac_extensions": members.get("stac_extensions") or [],
        "id": members.get("id"),
        "geometry": members.get("geometry"),
        "properties": properties,
        "links": [with_absolute_href(link, url) for link in objects_in(members.get("links"))],
        "assets": {key: with_absolute_href(one, url) for key, one in assets.items() if isinstance(one, dict)},
    }
    for name in ("bbox", "collection"):
        if members.get(name) is not None:
            item[name] = members[name]
    return item


def _column(array: pa.Array, name: str, *, is_json: bool) -> list[Any]:
    """Return the values of a column as JSON values."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    if name == "geometry":
        return _geometries(array)
    if name == "bbox":
        return [_bbox(value) for value in array.to_pylist()]
    values = array.to_pylist()
    is_text = array.type in (pa.string(), pa.large_string())
    if is_text and (is_json or name in ("assets", "links", "stac_extensions")):
        return [_parsed(value) for value in values]
    return [_plain(value) for value in values]


def _parsed(text: str | None) -> Any:
    try:
        return orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None


def _geometries(array: pa.Array) -> list[Json | None]:
    shapes = shapely.from_wkb(array.to_pylist(), on_invalid="ignore")
    return [None if text is None else orjson.loads(text) for text in shapely.to_geojson(shapes)]


def _bbox(value: Any) -> list[float] | None:
    if isinstance(value, list):
        return value or None
    if not isinstance(value, dict):
        return None
    names = _WITH_HEIGHT if value.get("zmin") is not None else _FLAT
    box = [value.get(name) for name in names]
    return (
        [coordinate for coordinate in box if isinstance(coordinate, int | float)] if None not in box else None
    )


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one return per kind
    """Return an Arrow value as a JSON value, without members that are null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        if value and all(isinstance(element, tuple) for element in value):  # a map
            return {str(name): _plain(one) for name, one in value if one is not None}
        return [_plain(element) for element in value]
    if isinstance(value, datetime):
        return _rfc3339(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        shape = shapely.from_wkb(value, on_invalid="ignore")
        return None if shape is None else orjson.loads(shapely.to_geojson(shape))
    return str(value)


def _rfc3339(time: datetime) -> str:
    utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    digits = "microseconds" if utc.microsecond % 1000 else "milliseconds" if utc.microsecond else "seconds"
    return utc.isoformat(timespec=digits).replace("+00:00", "Z")


if __name__ == "__main__":
    main()
