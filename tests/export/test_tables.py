"""Tables as files: the content of each format, and atomic writing."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from stacpull.errors import UsageError
from stacpull_export.tables import Column, check_table, write_table

COLUMNS = (
    Column("name"),
    Column("count", "integer"),
    Column("share", "real"),
    Column("good", "boolean"),
    Column("more", "json"),
    Column("labels", "texts"),
)
ROWS: list[tuple[Any, ...]] = [
    ("plain", 1, 0.5, True, {"a": [1, None, "ü"]}, ["Rice fields"]),
    ('with "quotes", commas\nand lines', 0, -1e300, False, [], []),
    (None, None, None, None, None, None),
    ("1+1 \N{SNOWMAN}", 2**63 - 1, 3.0, True, [[1, 2], [3, 4]], ["a", "ü"]),
]


@pytest.fixture(params=[".ndjson", ".csv", ".parquet", ".CSV"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"table{request.param}"


def read_back(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of a table, with ambiguous text converted by the column's kind."""
    match path.suffix.lower():
        case ".ndjson":
            return [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]
        case ".csv":
            with path.open(newline="") as file:
                names, *rows = csv.reader(file)
            assert names == [column.name for column in COLUMNS]
            return [tuple(map(from_csv, row, COLUMNS)) for row in rows]
        case _:
            import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

            rows = pq.read_table(path).to_pylist()
            return [(*(row | {"more": row["more"] and json.loads(row["more"])}).values(),) for row in rows]


def from_csv(text: str, column: Column) -> Any:
    if text == "":
        return None
    read = {"text": str, "integer": int, "real": float, "boolean": {"true": True, "false": False}.get}
    return json.loads(text) if column.kind in {"json", "texts"} else read[column.kind](text)


def test_every_value_is_read_back(path: Path) -> None:
    write_table(path, COLUMNS, ROWS)
    assert read_back(path) == ROWS


def test_more_rows_than_one_batch_stay_in_order(path: Path) -> None:
    rows = [(f"row {number}", number, 0.0, True, [number], ["a"]) for number in range(4500)]
    write_table(path, COLUMNS, iter(rows))
    assert read_back(path) == rows


def test_parquet_without_pyarrow_is_rejected_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr("stacpull_export.formats.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"extra geoparquet"):
        check_table(tmp_path / "t.parquet")
    check_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('=HYPERLINK("http://h")', '\'=HYPERLINK("http://h")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1+1", "'  =1+1"),
        ("\t=1", "'\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-12.5", "-12.5"),
        ("+3", "+3"),
        ("a=b", "a=b"),
        ("\x1b[2J\x00x\x9b", "\ufffd[2J\ufffdx\ufffd"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_a_csv_contains_no_formulas_and_no_control_characters(text, written, tmp_path):
    path = tmp_path / "t.csv"
    columns = [Column("name"), Column("size", "integer"), Column(text, "integer")]
    write_table(path, columns, [(text, -4, 1)])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "size", written], [written, "-4", "1"]]
