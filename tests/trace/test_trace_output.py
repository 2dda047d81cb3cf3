"""The allowed kinds of OUT, and the files written there."""

import importlib.util
from pathlib import Path

import pytest
from tests.trace.reports import trace_report

from stacpull.errors import UsageError
from stacpull_export import formats
from stacpull_trace import trace_output
from stacpull_trace.trace_output import output_at, write_all

PARQUET, PLOT = "pyarrow", "matplotlib"


@pytest.mark.parametrize(
    ("name", "method", "files"),
    [
        (
            "out",
            "mode",
            {"series.csv", "series.parquet", "scenes.csv", "scenes.parquet", "chart.png", "trace.json"},
        ),
        ("out", "median", {"series.csv", "series.parquet", "median.csv", "median.parquet", "trace.json"}),
        ("x.csv", "mode", {"x.csv"}),
        ("x.PARQUET", "mode", {"x.PARQUET"}),
        ("x.ndjson", "median", {"x.ndjson"}),
        ("x.png", "mode", {"x.png"}),
        ("x.PDF", "mode", {"x.PDF"}),
    ],
)
def test_out_is_a_directory_or_a_file(name: str, method: str, files: set[str], tmp_path: Path) -> None:
    output = output_at(tmp_path / name, method)  # type: ignore[arg-type]  # a table's word
    if output.folder:
        output.path.mkdir()
    written = list(map(str, write_all(output, trace_report(method=method))))
    folder = output.path if output.folder else tmp_path
    assert {path.name for path in folder.iterdir()} == files
    assert {Path(path).name for path in written} == files


@pytest.mark.parametrize(
    ("name", "there", "method"),
    [
        ("x.csv", "x.csv", "mode"),
        ("x.png", "x.png", "mode"),
        ("out", "out/series.csv", "mode"),
        ("out", "out/scenes.parquet", "mode"),
        ("out", "out/chart.png", "mode"),
        ("out", "out/trace.json", "median"),
        ("out", "out/median.csv", "median"),
    ],
)
def test_files_of_other_programs_are_not_overwritten(name, there, method, tmp_path):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(UsageError, match="already exists and was not written by a trace"):
        output_at(tmp_path / name, method)
    answers = tmp_path / ("out/.stacpull/trace.sqlite" if name == "out" else f"{name}.stacpull")
    answers.parent.mkdir(exist_ok=True)
    answers.touch()
    assert output_at(tmp_path / name, method).path == tmp_path / name


@pytest.mark.parametrize(
    ("name", "method", "missing", "extras"),
    [
        ("out", "mode", {PARQUET, PLOT}, "geoparquet"),
        ("out", "mode", {PLOT}, "plot"),
        ("out", "median", {PARQUET}, "geoparquet"),
        ("x.png", "mode", {PLOT}, "plot"),
        ("x.parquet", "mode", {PARQUET}, "geoparquet"),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(name, method, missing, extras, tmp_path, monkeypatch):
    true = importlib.util.find_spec

    def find(module: str) -> object:
        return None if module in missing else true(module)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(trace_output, "find_spec", find)
    monkeypatch.setattr(formats, "find_spec", find)
    with pytest.raises(UsageError, match=extras):
        output_at(tmp_path / name, method)  # type: ignore[arg-type]  # a table's word
    assert not output_at(tmp_path / "x.csv", "mode").folder  # this needs no package
