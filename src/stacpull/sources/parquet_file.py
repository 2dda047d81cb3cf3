"""Decodes Parquet files of items (stac-geoparquet 1.0 and 1.1): footer, row groups, and rows as items.

This is the only module of the sources that needs pyarrow. It runs as a separate process, `python -m
stacpull.sources.parquet_file DESCRIPTOR`, because a file may come from anyone, and some files crash pyarrow.
The process has no credentials and a memory limit, which also stops decompression bombs. It sends JSON of
bounded size. The sizes in the footer are checked before anything is decoded.

    standard input ─▶ {"footer": …} or {"items": …} ─▶ frames of JSON ─▶ standard output
    descriptor: a file with the bytes for the request
"""

from __future__ import annotations

import math
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from stacpull.json_values import list_or_empty, object_or_empty, objects_in, parsed_object
from stacpull.models import Json
from stacpull.planning.hrefs import with_absolute_href
from stacpull.pyarrow_import import hide_pandas

MEMORY: Final = 2 << 30
"""The memory limit of the process in bytes. The libraries reserve half of it."""
_WATCH_EVERY: Final = 0.05
_COMPRESSED_LIMIT: Final = 512 << 20
_PLAIN_LIMIT: Final = 4 << 30
"""The most bytes of one row group, compressed and decompressed."""
_ROWS_LIMIT: Final = 4 << 20
_COLUMNS_LIMIT: Final = 10_000
_ANSWER_LIMIT: Final = 16 << 20
"""The most bytes of JSON in one answer. A larger batch of items is divided; a larger item is refused."""
JSON_TEXT_KEY: Final = b"stacpull:json_text"
"""Metadata of files written by `export`: `{"columns": [...]}`, the columns that contain JSON text."""
_MEMBERS: Final = frozenset(
    {"type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection",
     "properties"}
)  # fmt: skip
_FLAT, _WITH_HEIGHT = ("xmin", "ymin", "xmax", "ymax"), ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
_RENAMED: Final = "properties:"


class ParquetError(Exception):
    """A file is not Parquet with items, or exceeds a limit. The text states which."""


RowGroupAnswer = tuple[int, int, int, dict[str, tuple[Any, Any, int | None]]]
"""Start and end offset, number of rows, and for each column the lowest value, the highest and the nulls."""


class ParquetFooter(NamedTuple):
    """The metadata at the end of a file."""

    metadata: Any
    json_text: frozenset[str]
    """Columns whose text is JSON, as recorded by `export` (`JSON_TEXT_KEY`)."""
    row_groups: tuple[RowGroupAnswer, ...]
    collections: dict[str, Json]


def read_footer(path: str, size: int) -> ParquetFooter:
    """Return the footer of a file.

    Args:
        path: A file with the bytes of the footer; the rest may be holes.
        size: The size of the file in bytes.

    Raises:
        ParquetError: It cannot be decoded, has no items, or states sizes above a limit.
    """
    try:
        return _footer(pq.read_metadata(path), size)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ParquetError(f"its footer cannot be decoded: {_first_line(error)}") from error


def items_in(
    path: str, footer: ParquetFooter, number: int, url: str, *, first: int = 0, most: int
) -> Iterator[list[Json]]:
    """Yield the items of a row group with absolute hrefs, up to `most` at a time.

    Args:
        path: A file with the bytes of the row group; the rest may be holes.
        footer: The footer of the file.
        number: The number of the row group.
        url: The URL of the file, the base of relative hrefs.
        first: The first row.
        most: The most rows to decode at once.

    Raises:
        ParquetError: It cannot be decoded.
    """
    try:
        parquet = pq.ParquetFile(path, metadata=footer.metadata, pre_buffer=False)
        passed = 0
        for batch in parquet.iter_batches(most, row_groups=[number], use_threads=False):
            begin = max(0, first - passed)
            passed += batch.num_rows
            if begin < batch.num_rows:
                yield _items(batch.slice(begin), url, footer.json_text)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ParquetError(f"row group {number} cannot be decoded: {_first_line(error)}") from error


def main(descriptor: int) -> None:
    """Answer requests from standard input with frames: four bytes of length, then JSON.

    The answer to `{"footer": [SIZE]}` is one frame. The answer to `{"items": [NUMBER, URL, FIRST, MOST]}` is
    one frame for each batch and a last one with null. The answer to a failed request is `{"error": TEXT}`.
    """
    hide_pandas()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if sys.platform == "darwin":  # its limit does not count mapped memory
        threading.Thread(target=_watch_memory, daemon=True).start()
    path = f"/dev/fd/{descriptor}"
    footer: ParquetFooter | None = None
    for line in sys.stdin.buffer:
        request = orjson.loads(line)
        try:
            if "footer" in request:
                footer = read_footer(path, *request["footer"])
                _answer({"groups": footer.row_groups, "collections": footer.collections})
            elif footer is not None:
                number, url, first, most = request["items"]
                for items in items_in(path, footer, number, url, first=first, most=most):
                    _answer_items(items)
                _answer(None)
        except ParquetError as error:
            _answer({"error": str(error)})
        except MemoryError:
            _answer({"error": f"decoding it needs more than {MEMORY:,} bytes of memory"})


def _watch_memory() -> None:
    """End the process when it uses too much memory (`ru_maxrss` is in bytes on macOS)."""
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY:
        time.sleep(_WATCH_EVERY)
    os._exit(1)


def _answer_items(items: list[Json]) -> None:
    data = _json(items)
    if len(data) <= _ANSWER_LIMIT:
        _send(data)
    elif len(items) == 1:
        raise ParquetError(f"an item has {len(data):,} bytes of JSON; at most {_ANSWER_LIMIT:,} are read")
    else:
        half = len(items) // 2
        _answer_items(items[:half])
        _answer_items(items[half:])


def _answer(document: Any) -> None:
    _send(_json(document))


def _json(document: Any) -> bytes:
    return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS)


def _send(data: bytes) -> None:
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()


# --- the footer -------------------------------------------------------------------------------------------


def _footer(metadata: Any, size: int) -> ParquetFooter:
    names = metadata.schema.to_arrow_schema().names
    if missing := {"id", "geometry", "assets"} - set(names):
        raise ParquetError(f"it contains no items: it has no column {min(missing)}")
    if metadata.num_columns > _COLUMNS_LIMIT:
        raise ParquetError(f"it has {metadata.num_columns:,} columns; at most {_COLUMNS_LIMIT:,} are read")
    stated = metadata.metadata or {}
    _check_encoding(_json_of(stated.get(b"geo")))
    json_text = list_or_empty(_json_of(stated.get(JSON_TEXT_KEY)).get("columns"))
    names_of_text = frozenset(map(str, json_text)) & set(names)
    numbers = range(metadata.num_row_groups)
    groups = tuple(_row_group(metadata, number, size, names_of_text) for number in numbers)
    return ParquetFooter(metadata, names_of_text, groups, _collections(stated))


def _row_group(metadata: Any, number: int, size: int, json_text: frozenset[str]) -> RowGroupAnswer:
    """Return a row group. The order of JSON texts says nothing about the values in them."""
    group = metadata.row_group(number)
    starts, ends, ranges = [], [], {}
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.file_path:
            raise ParquetError("parts of it are in other files")
        start = _start(chunk)
        starts.append(start)
        ends.append(start + chunk.total_compressed_size)
        name, is_flat = chunk.path_in_schema, metadata.schema.column(index).max_repetition_level == 0
        if chunk.is_stats_set and is_flat and name not in json_text:
            ranges[name] = _range(chunk.statistics)
    start, end = min(starts), max(ends)
    plain = sum(max(0, group.column(index).total_uncompressed_size) for index in range(group.num_columns))
    if not 0 < start <= end <= size:
        raise ParquetError(f"row group {number} is outside of the file")
    for amount, limit, noun in (
        (end - start, _COMPRESSED_LIMIT, "bytes"),
        (plain, _PLAIN_LIMIT, "bytes, decompressed"),
        (group.num_rows, _ROWS_LIMIT, "rows"),
    ):
        if not 0 <= amount <= limit:
            raise ParquetError(f"row group {number} has {amount:,} {noun}; at most {limit:,} are read")
    return start, end, group.num_rows, ranges


def _start(chunk: Any) -> int:
    data = int(chunk.data_page_offset)
    dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    return min(data, dictionary) if dictionary else data


def _range(statistics: Any) -> tuple[Any, Any, int | None]:
    nulls = statistics.null_count if statistics.has_null_count else None
    try:
        low, high = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeDecodeError):
        low = high = None
    return _limit(low), _limit(high), nulls


def _limit(value: Any) -> Any:
    """Return a bound of a range as JSON; a time as a list with its text."""
    if isinstance(value, datetime):
        return [value.isoformat()]
    return value if isinstance(value, str | int | float) else None


def _check_encoding(geo: Json) -> None:
    column = object_or_empty(object_or_empty(geo.get("columns")).get("geometry"))
    encoding = column.get("encoding", "WKB")
    if encoding != "WKB":
        raise ParquetError(f"its geometries are encoded as {encoding}; only WKB is read")


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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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
    main(int(sys.argv[1]))
