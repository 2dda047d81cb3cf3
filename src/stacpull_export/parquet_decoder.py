"""Decodes a Parquet file of items (stac-geoparquet 1.0 and 1.1) in a separate process.

It gets a task on standard input (`parquet_source`), requests bytes of the file and answers in frames: four
bytes of length, then JSON. The memory limit stops decompression bombs. Row groups are skipped by statistics;
the filters of the selection check the rows.
"""

import io
import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import and_, ge, le, or_
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import shapely

from stacpull.json_values import list_or_empty, object_or_empty, objects_in, parsed_object
from stacpull.models import Json
from stacpull.planning.hrefs import is_own_document
from stacpull.urls import join
from stacpull_export.arrow import FLAT, WITH_HEIGHT, without_nulls

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
_RENAMED: Final = "properties:"
_EDGE: Final = 180.0
_SINGLE: Final = 2.0**-23
"""The largest error of a number that was rounded or cut to single precision, as a share of it."""
_NANOSECOND_YEARS: Final = range(1678, 2262)
"""The whole years that a column of nanoseconds can have."""
_SENDING: Final = threading.Lock()
"""pyarrow reads the file in threads of its own."""


class ParquetError(Exception): ...


class _FileOverPipe(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self._size, self._place = size, 0
        self.end = b""
        """The last bytes of the file, which pyarrow reads several times."""

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._size - self._place)
        wanted = min(size, rest)
        if wanted <= 0:
            return b""
        if rest <= len(self.end):
            data = self.end[-rest:][:wanted]
        else:
            _answer({"read": [self._place, wanted]})
            data = sys.stdin.buffer.read(wanted)
        self._place += wanted
        return data


def main() -> None:
    """Run the task on standard input. The last answer is `{"end": true}` or `{"error": TEXT}`."""
    # or pyarrow would import it: 47 MB, and a fifth of a second
    sys.modules["pandas"] = None  # type: ignore[assignment]
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
    remote = _FileOverPipe(task["size"])
    remote.seek(max(0, task["size"] - 8))
    length = int.from_bytes(remote.read(4), "little") + 8
    if length > _FOOTER_LIMIT:
        raise ParquetError(f"its footer has {length:,} bytes; at most {_FOOTER_LIMIT:,} are read")
    remote.seek(max(0, task["size"] - length))
    remote.end = remote.read(length)
    file = pa.PythonFile(remote, mode="r")
    parquet = pq.ParquetFile(file, pre_buffer=True)
    schema, stated = parquet.schema_arrow, parquet.metadata.metadata or {}
    if missing := {"id", "geometry", "assets"} - set(schema.names):
        raise ParquetError(f"it contains no items: it has no column {min(missing)}")
    geo = object_or_empty(_json_of(stated.get(b"geo")).get("columns"))
    encoding = object_or_empty(geo.get("geometry")).get("encoding", "WKB")
    if encoding != "WKB":
        raise ParquetError(f"its geometries are encoded as {encoding}; only WKB is read")
    document = _json_of(stated.get(b"stac-geoparquet"))  # 1.1, before that `stac:collections`
    collections = document.get("collections") or _json_of(stated.get(b"stac:collections"))
    one = object_or_empty(document.get("collection"))
    if isinstance(one.get("id"), str) and not collections:
        collections = {one["id"]: one}
    known = {name: body for name, body in object_or_empty(collections).items() if isinstance(body, dict)}
    _answer({"collections": known})
    if "rows" not in task:
        return
    json_text = frozenset(map(str, list_or_empty(_json_of(stated.get(_JSON_TEXT_KEY)).get("columns"))))
    fragment = ds.ParquetFileFormat().make_fragment(file)
    condition = _condition(task["limits"], {field.name: field.type for field in schema})
    if condition is not None:
        fragment = fragment.subset(condition)
    for group in fragment.row_groups:
        first = 0
        for batch in parquet.iter_batches(task["rows"], row_groups=[group.id], use_threads=False):
            _answer_items(group.id, first, _items(batch, task["url"], json_text))
            first += batch.num_rows


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


def _send(data: bytes) -> None:
    with _SENDING:
        sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
        sys.stdout.buffer.flush()


def _json(document: Json) -> bytes:
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
    return orjson.dumps(document, default=_plain, option=options)


def _plain(value: Any) -> Any:
    """Return a value of Arrow that JSON does not have; binary ones may be geometries."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        shape = shapely.from_wkb(value, on_invalid="ignore")
        return _parsed(shapely.to_geojson(shape))
    return str(value)


def _json_of(data: bytes | None) -> Json:
    return parsed_object(data or b"") or {}


def _condition(limits: Json, kinds: dict[str, pa.DataType]) -> ds.Expression | None:
    """Return what every row within the limits fulfils; None for no limits."""
    parts = list[ds.Expression]()
    if limits.get("collections") and _is_text(kinds.get("collection")):
        parts.append(ds.field("collection").isin(limits["collections"]) | ds.field("collection").is_null())
    box = kinds.get("bbox", pa.null())
    if limits.get("boxes") and pa.types.is_struct(box) and {field.name for field in box} >= set(FLAT):
        parts.append(reduce(or_, [_meets(*sides) for sides in limits["boxes"]]))
    times = {name for name, kind in kinds.items() if pa.types.is_timestamp(kind)}
    if limits.get("interval") and "datetime" in times:
        start, end = limits["interval"]

        def within(name: str, compare: Callable[..., ds.Expression], text: str | None) -> ds.Expression:
            """Return whether a time is on the right side of a limit, or unknown."""
            if text is None or (kinds[name].unit == "ns" and int(text[:4]) not in _NANOSECOND_YEARS):
                return ds.scalar(True)
            limit = pa.scalar(datetime.fromisoformat(text), pa.timestamp("us", "UTC"))
            limit = limit.cast(pa.timestamp("us", kinds[name].tz))
            return compare(ds.field(name), limit) | ds.field(name).is_null()

        instant = within("datetime", ge, start) & within("datetime", le, end)
        if {"start_datetime", "end_datetime"} <= times:
            span = within("end_datetime", ge, start) & within("start_datetime", le, end)
            has_instant = ds.field("datetime").is_valid()
            instant = (has_instant & instant) | (~has_instant & span)
        parts.append(instant)
    return reduce(and_, parts) if parts else None


def _meets(west: float, south: float, east: float, north: float) -> ds.Expression:
    """Return the condition for boxes that may meet this one (GeoParquet 1.1, "covering").

    A box may have single precision. One whose west exceeds its east crosses the antimeridian.
    """
    xmin, ymin, xmax, ymax = (ds.field("bbox", name) for name in FLAT)
    west, south = (number - abs(number) * 2 * _SINGLE for number in (west, south))
    east, north = (number + abs(number) * 2 * _SINGLE for number in (east, north))
    is_odd = ((xmin >= 0.0) & (xmax <= 0.0)) | (xmin < -_EDGE) | (xmax > _EDGE)
    meets = (ymin <= north) & (ymax >= south) & (((xmin <= east) & (xmax >= west)) | is_odd)
    return reduce(or_, [meets, *(side.is_null() for side in (xmin, ymin, xmax, ymax))])


def _is_text(kind: pa.DataType | None) -> bool:
    return kind in (pa.string(), pa.large_string())


def _items(batch: pa.RecordBatch, url: str, json_text: frozenset[str]) -> list[Json]:
    columns = {
        field.name: _column(batch.column(index), field.name, is_json=field.name in json_text)
        for index, field in enumerate(batch.schema)
    }
    items = []
    for row in range(batch.num_rows):
        members = {name: values[row] for name, values in columns.items() if values[row] is not None}
        properties = dict(object_or_empty(members.pop("properties", None)))
        for name in [name for name in members if name not in _MEMBERS]:
            bare = name.removeprefix(_RENAMED)
            properties[bare if bare in _MEMBERS else name] = members.pop(name)
        properties.setdefault("datetime", None)
        assets = object_or_empty(members.get("assets"))
        item: Json = {"stac_version": "1.0.0", "stac_extensions": [], "id": None, "geometry": None, **members}
        item |= {
            "type": "Feature",
            "properties": properties,
            "links": [_absolute(link, url) for link in objects_in(members.get("links"))],
            "assets": {key: _absolute(one, url) for key, one in assets.items() if isinstance(one, dict)},
        }
        items.append(item)
    return items


def _absolute(entry: Any, base: str) -> Any:
    """Return an asset, an alternate or a link with an absolute href: it is relative to the file."""
    if not isinstance(entry, dict):
        return entry
    href, alternates = entry.get("href"), entry.get("alternate")
    found = dict(entry)
    if isinstance(href, str) and not is_own_document(href):
        found["href"] = join(base, href) or href
    if isinstance(alternates, dict):
        found["alternate"] = {name: _absolute(one, base) for name, one in alternates.items()}
    return found


def _column(array: pa.Array, name: str, *, is_json: bool) -> list[Any]:
    """Return the values of a column as JSON values, or as values of `_plain`."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()  # its values are slow to read
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", "UTC"), safe=False)
    if name == "geometry":
        shapes = shapely.from_wkb(array.to_pylist(), on_invalid="ignore")
        return list(map(_parsed, shapely.to_geojson(shapes)))
    # with this argument, pyarrow takes ten times as long
    values = array.to_pylist(maps_as_pydicts="lossy" if "map<" in str(array.type) else None)
    if name == "bbox":
        return [_bbox(value) for value in values]
    if _is_text(array.type) and (is_json or name in ("assets", "links", "stac_extensions")):
        return [_parsed(value) for value in values]
    return list(map(without_nulls, values)) if pa.types.is_nested(array.type) else values


def _parsed(text: str | None) -> Any:
    try:
        return orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None


def _bbox(value: Any) -> list[float] | None:
    if isinstance(value, list):
        return value or None
    value = object_or_empty(value)
    names = FLAT if value.get("zmin") is None else WITH_HEIGHT
    box = [value.get(name) for name in names]
    return None if None in box else box


if __name__ == "__main__":
    main()
