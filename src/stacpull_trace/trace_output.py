"""Write the tables and the chart of a trace.

OUT is a folder for all of them, or one file chosen by its suffix.

| OUT | contents |
|---|---|
| a folder | `series.csv`, `series.parquet`, `scenes.csv`, `scenes.parquet`, `chart.png`, `trace.json` |
| `x.csv`, `x.parquet`, `x.ndjson` | the series: one row per day |
| `x.png`, `x.svg`, `x.pdf` | the chart |

With `--method median`, a folder holds the notebook's table, `median.csv` and `median.parquet`, in place of
the scenes and the chart. A file gets its name only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from stacpull.errors import MissingExtraError, UsageError, destination_errors
from stacpull.ledger.database import ledger_path
from stacpull_export.atomic_file import atomic_file
from stacpull_export.tables import Column, Kind, check_table, write_table
from stacpull_trace.chart import ChartFormat, chart_bytes
from stacpull_trace.question import Method
from stacpull_trace.report import MedianRow, ScenePixels, TraceDay, TraceReport

_FORMATS: Final = (".csv", ".parquet")
"""Of the tables in a folder."""
_CHARTS: Final[dict[str, ChartFormat]] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
_SUFFIXES: Final = (".csv", ".parquet", ".ndjson", *_CHARTS)
_KINDS: Final[dict[Kind, frozenset[str]]] = {
    "date": frozenset({"date"}),
    "time": frozenset({"acquired", "first", "weighted", "last"}),
    "integer": frozenset({"samples", "valid", "tiles", "scenes", "mode_index", "index", "pixels"}),
    "text": frozenset({"tile", "kind", "name", "satellite", "state", "mode", "mode_tile", "problem"}),
}
"""Kinds of columns by name; all others are real numbers."""


class TraceOutput(NamedTuple):
    path: Path
    folder: bool

    @property
    def answers(self) -> Path:
        if self.folder:
            return self.path / ".stacpull" / "trace.sqlite"
        return self.path.with_name(f"{self.path.name}.stacpull")

    def period(self) -> str | None:
        """Return the period of the tables in the folder; None if it is not known. Blocks."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            return str(orjson.loads((self.path / "trace.json").read_bytes())["period"])
        return None


def output_at(path: Path, method: Method) -> TraceOutput:
    with destination_errors(path):
        output = TraceOutput(path, folder=path.is_dir() or not path.suffix)
        if output.folder:
            _check_installed(
                path, ("pyarrow", "geoparquet"), *([("matplotlib", "plot")] if method == "mode" else [])
            )
            if ledger_path(path).exists():
                raise UsageError(f"{path} is a mirror: name another folder for the trace.")
        else:
            _check_file(path, method)
        there = next(filter(os.path.lexists, _paths(output, method)), None)
        if there is not None and not output.answers.exists():
            raise UsageError(
                f"{there} already exists and was not written by a trace. Choose another output, or remove it."
            )
        return output


def _check_file(path: Path, method: Method) -> None:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise UsageError(f"Cannot write {path}: name a folder, or a file with one of the suffixes {known}.")
    if suffix not in _CHARTS:
        check_table(path)
    elif method == "median":
        raise UsageError("--method median makes no chart: name a folder, or a .csv or .parquet file.")
    else:
        _check_installed(path, ("matplotlib", "plot"))


def _paths(output: TraceOutput, method: Method) -> list[Path]:
    if not output.folder:
        return [output.path]
    tables = ("series", "median") if method == "median" else ("series", "scenes")
    names = [f"{table}{suffix}" for table in tables for suffix in _FORMATS]
    return [output.path / name for name in (*names, *(["chart.png"] * (method == "mode")), "trace.json")]


def _check_installed(path: Path, *needs: tuple[str, str]) -> None:
    missing = [need for need in needs if find_spec(need[0]) is None]
    if missing:
        packages = " and ".join(package for package, _ in missing)
        extras = ",".join(extra for _, extra in missing)
        raise MissingExtraError(str(path), packages, extras, ", or name a .csv file for the series")


def write_all(output: TraceOutput, report: TraceReport) -> Iterator[Path]:
    """Write the files of OUT, and yield the path of each. Blocks."""
    tables: dict[str, tuple[type[Any], Sequence[Any]]] = {"series": (TraceDay, report.days)}
    if report.method == "median":
        tables["median"] = MedianRow, report.table
    else:
        tables["scenes"] = ScenePixels, report.scenes
    if not output.folder:
        suffix = output.path.suffix.lower()
        if suffix in _CHARTS:
            yield _write_bytes(output.path, chart_bytes(report, _CHARTS[suffix]))
        else:
            yield _write_rows(output.path, *tables["series"], report.index)
        return
    for name, (kind, rows) in tables.items():
        for suffix in _FORMATS:
            yield _write_rows(output.path / f"{name}{suffix}", kind, rows, report.index)
    if report.method == "mode":
        yield _write_bytes(output.path / "chart.png", chart_bytes(report, "png"))
    content = report.to_json()
    del content["files"]  # they are named only when all are written
    document = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    yield _write_bytes(output.path / "trace.json", document)


def _write_rows(path: Path, kind: type[Any], rows: Sequence[Any], index: str) -> Path:
    columns = [_column(kind, name, index) for name in kind.__struct_fields__]
    values = map(msgspec.structs.astuple, rows)
    # a member of an enum becomes plain text
    write_table(path, columns, ([str(v) if isinstance(v, str) else v for v in row] for row in values))
    return path


def _column(kind: type[Any], name: str, index: str) -> Column:
    """Return the column of a field. The median's table has the notebook's columns: `date` and the index."""
    if kind is MedianRow:
        return Column(name, "time") if name == "date" else Column(index, "real")
    return Column(name, next((column_kind for column_kind, names in _KINDS.items() if name in names), "real"))


def _write_bytes(path: Path, data: bytes) -> Path:
    with atomic_file(path) as file:
        file.write(data)
    return path
