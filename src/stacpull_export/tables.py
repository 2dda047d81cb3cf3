"""Writes a table to one file, atomically: Parquet, CSV or NDJSON, by the suffix of its name.

A kill leaves the old file unchanged (`atomic_file`). Only one batch of rows is kept in memory.
"""

import csv
import errno
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple

import orjson

from stacpull.clock import rfc3339
from stacpull.errors import UsageError, destination_error
from stacpull_export.atomic_file import atomic_file
from stacpull_export.formats import require_pyarrow

Kind = Literal["text", "integer", "real", "boolean", "texts", "json", "date", "time"]


class Column(NamedTuple):
    """A column. Values of `json` are objects and lists, written as JSON text in Parquet and CSV.

    Values of `texts` are lists of strings, JSON text only in CSV. Values of `date` are `datetime.date`, those
    of `time` aware `datetime.datetime`: timestamps in UTC in Parquet, RFC 3339 in CSV and NDJSON.
    """

    name: str
    kind: Kind = "text"


Row = Sequence[Any]  # values in the order of the columns; None for missing values
_FileMetadata = Mapping[str, str] | None
_Writer = Callable[[BinaryIO, Sequence[Column], Iterable[Row], _FileMetadata], None]

_BATCH = 2000  # the most rows in memory


def refuse_directory(path: Path) -> None:
    """Raise DestinationError if `path` is a directory, before the work for a file of this name begins."""
    if path.is_dir():
        raise destination_error(IsADirectoryError(errno.EISDIR, "it is a directory"), path)


def check_table(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise UsageError(f"Cannot write {path}: use a name that ends with one of {known}.")
    if suffix == ".parquet":
        require_pyarrow("Parquet", otherwise=", or write .csv or .ndjson")
    refuse_directory(path)


def write_table(
    path: Path, columns: Sequence[Column], rows: Iterable[Row], *, metadata: Mapping[str, str] | None = None
) -> None:
    with atomic_file(path) as file:
        _WRITERS[path.suffix.lower()](file, columns, rows, metadata)


def _write_ndjson(file: BinaryIO, columns: Sequence[Column], rows: Iterable[Row], _: _FileMetadata) -> None:
    names = [column.name for column in columns]
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
    file.writelines(orjson.dumps(dict(zip(names, row, strict=True)), option=option) for row in rows)


def _write_csv(file: BinaryIO, columns: Sequence[Column], rows: Iterable[Row], _: _FileMetadata) -> None:
    """Write RFC 4180 with a header line. None is empty, booleans are `true` and `false`.

    Strings, also names of columns, may come from a hostile source. A spreadsheet evaluates strings that look
    like formulas, so these get an apostrophe in front. Control characters except line breaks become U+FFFD.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(_harmless(column.name) for column in columns)
    for row in rows:
        writer.writerow(map(_as_csv, row))
    text.detach()


def _as_csv(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, str):
        return _harmless(value)
    text = _as_text(value)
    if not isinstance(text, str):
        return text
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # within strings of JSON


def _harmless(text: str) -> str:
    text = _CONTROLS.sub("\ufffd", text)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _as_text(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | list | tuple) else value


def _write_parquet(
    file: BinaryIO, columns: Sequence[Column], rows: Iterable[Row], metadata: _FileMetadata
) -> None:
    import pyarrow as pa  # noqa: PLC0415 -- heavy, and an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {
        "text": pa.string(), "json": pa.string(), "integer": pa.int64(), "real": pa.float64(),
        "boolean": pa.bool_(), "date": pa.date32(), "time": pa.timestamp("us", "UTC"),
        "texts": pa.list_(pa.string()),
    }  # fmt: skip
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        remaining = iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            arrays = [
                pa.array([_as_parquet(row[index], column.kind) for row in batch], types[column.kind])
                for index, column in enumerate(columns)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        if metadata:
            writer.add_key_value_metadata(dict(metadata))


def _as_parquet(value: Any, kind: Kind) -> Any:
    """Return a value for Parquet; None for an integer above 64 bits, which is never a true size."""
    if isinstance(value, int) and value >= 1 << 63:
        return None
    return _as_text(value) if kind == "json" else value


_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_WRITERS: dict[str, _Writer] = {".parquet": _write_parquet, ".csv": _write_csv, ".ndjson": _write_ndjson}
