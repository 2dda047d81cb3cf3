"""What a trace leaves behind: OUT is a folder for all tables and the chart, or one file by its suffix.

| OUT | holds |
|---|---|
| a folder | `scenes.csv`, `scenes.parquet`, `series.csv`, `series.parquet`, `chart.png`, `trace.json` |
| `x.csv`, `x.parquet` | the series: a row a day |
| `x.png` | the chart |

With `--method median` the folder holds `median.csv`, `median.parquet` and `trace.json`, a file the median's
table. Each file comes under its name when it is whole, never before.
"""

from __future__ import annotations

import contextlib
import enum
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from stacpull.errors import DestinationError, UsageError
from stacpull.trace.chart import Chart, png_bytes
from stacpull.trace.question import Method
from stacpull.trace.report import MedianRow, ScenePixels, TraceDay, TraceReport
from stacpull.trace.tables import Row, csv_bytes, median_columns, parquet_bytes

__all__ = ["Output", "OutputKind", "output_at", "write_all"]

_Write = Callable[[TraceReport], bytes]


class OutputKind(enum.Enum):
    """What OUT is."""

    FOLDER = ""
    CSV = ".csv"
    PARQUET = ".parquet"
    PNG = ".png"


_NEEDS: Final = {
    OutputKind.FOLDER: (("pyarrow", "geoparquet"), ("matplotlib", "plot")),
    OutputKind.CSV: (),
    OutputKind.PARQUET: (("pyarrow", "geoparquet"),),
    OutputKind.PNG: (("matplotlib", "plot"),),
}


class Output(NamedTuple):
    """Where a trace is written."""

    path: Path
    kind: OutputKind

    @property
    def answers(self) -> Path:
        """The file that keeps what was answered, so that a run goes on after a kill."""
        if self.kind is OutputKind.FOLDER:
            return self.path / ".stacpull" / "trace.sqlite"
        return self.path.with_name(f"{self.path.name}.stacpull")


def output_at(path: Path, method: Method) -> Output:
    """Return what OUT is, and see that it can be written.

    Raises:
        UsageError: Its suffix is none of those known, or a package that it needs is not installed.
    """
    known = {kind.value: kind for kind in OutputKind}
    kind = OutputKind.FOLDER if path.is_dir() else known.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path} is neither a folder nor .csv, .parquet or .png: name one of them.")
    if kind is OutputKind.PNG and method == "median":
        raise UsageError("--method median makes a table, no chart: name a folder, .csv or .parquet.")
    missing = [need for need in _NEEDS[kind] if find_spec(need[0]) is None]
    if missing:
        packages = " and ".join(package for package, _ in missing)
        extras = ",".join(extra for _, extra in missing)
        raise UsageError(
            f"{path} needs {packages}: pip install 'stacpull[{extras}]', or name a .csv file for the series."
        )
    return Output(path, kind)


def write_all(output: Output, report: TraceReport) -> tuple[str, ...]:
    """Write what OUT is to hold and return the paths; blocks.

    Raises:
        DestinationError: It cannot be written.
    """
    files = _files(output, report)
    try:
        for path, write in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, write(report))
    except OSError as error:
        reason = error.strerror or str(error)
        raise DestinationError(f"{output.path} cannot be written: {reason}.") from error
    return tuple(map(str, files))


def _files(output: Output, report: TraceReport) -> dict[Path, _Write]:
    tables = _median_tables(report.index) if report.method == "median" else _tables()
    if output.kind is not OutputKind.FOLDER:
        if output.kind is OutputKind.PNG:
            return {output.path: _chart}
        first = next(iter(tables.values()))
        return {output.path: first[output.kind]}
    files = {
        output.path / f"{name}{kind.value}": write
        for name, kinds in tables.items()
        for kind, write in kinds.items()
    }
    if report.method == "mode":
        files[output.path / "chart.png"] = _chart
    return {**files, output.path / "trace.json": _json}


def _tables() -> dict[str, dict[OutputKind, _Write]]:
    return {
        "series": _formats(TraceDay, lambda report: report.days),
        "scenes": _formats(ScenePixels, lambda report: report.scenes),
    }


def _median_tables(index: str) -> dict[str, dict[OutputKind, _Write]]:
    return {"median": _formats(MedianRow, lambda report: report.table, median_columns(index))}


def _formats(
    kind: type[Row],
    rows: Callable[[TraceReport], tuple[Row, ...]],
    names: dict[str, str] | None = None,
) -> dict[OutputKind, _Write]:
    return {
        OutputKind.CSV: lambda report: csv_bytes(kind, rows(report), names),
        OutputKind.PARQUET: lambda report: parquet_bytes(kind, rows(report), names),
    }


def _chart(report: TraceReport) -> bytes:
    title = f"{report.index.upper()}, {report.period.replace('/', ' to ')}"
    return png_bytes(Chart(report.index, title, report.days, report.scenes))


def _json(report: TraceReport) -> bytes:
    return orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2) + b"\n"


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place, sync it and move it there: readers see all of it, or the one before."""
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(number)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
