"""The rows of a trace as CSV and Parquet: columns are the fields of `stacpull.trace.report`, in order."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from stacpull.trace.report import MedianRow, ScenePixels, TraceDay, row_json

__all__ = ["Row", "csv_bytes", "median_columns", "parquet_bytes"]

Row = TraceDay | ScenePixels | MedianRow
_TIMES: Final = frozenset({"acquired", "first", "weighted", "last"})
_WHOLE: Final = frozenset({"samples", "valid", "tiles", "scenes", "mode_index", "index", "pixels"})
_TEXTS: Final = frozenset({"tile", "kind", "name", "satellite", "state", "mode", "problem"})


def columns_of(kind: type[Row], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the field and the column name of each column."""
    return [(f.name, names.get(f.name, f.name)) for f in fields(kind)]


def median_columns(index: str) -> dict[str, str]:
    """Return the names of a median table's columns: `date` and the index, as the notebook has them."""
    return {"value": index}


def csv_bytes(kind: type[Row], rows: Sequence[Row], names: Mapping[str, str] | None = None) -> bytes:
    """Return rows as CSV (RFC 4180): a header line, empty where there is no value, times as RFC 3339.

    Args:
        kind: What the rows are; it says the columns where there is no row.
        rows: The rows, in order.
        names: Column names that differ from the field's.
    """
    columns = columns_of(kind, names or {})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([name for _, name in columns])
    for row in rows:
        plain = row_json(row)
        writer.writerow([plain[field] for field, _ in columns])
    return text.getvalue().encode()


def parquet_bytes(kind: type[Row], rows: Sequence[Row], names: Mapping[str, str] | None = None) -> bytes:
    """Return rows as Parquet: dates as dates, times as timestamps in UTC, to the microsecond."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    columns = columns_of(kind, names or {})
    arrays = [
        pa.array([_plain(getattr(row, field)) for row in rows], _type(pa, kind, field))
        for field, _ in columns
    ]
    out = io.BytesIO()
    parquet.write_table(pa.table(arrays, names=[name for _, name in columns]), out)
    return out.getvalue()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value  # members of enums are more than text


def _type(pa: Any, kind: type[Row], field: str) -> Any:
    if field == "date":
        return pa.timestamp("us", "UTC") if kind is MedianRow else pa.date32()
    if field in _TIMES:
        return pa.timestamp("us", "UTC")
    if field in _WHOLE:
        return pa.int64()
    return pa.string() if field in _TEXTS else pa.float64()
