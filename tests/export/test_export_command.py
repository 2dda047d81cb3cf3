"""The options of `stacpull export` that are not options of a mirror."""

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import environment, run
from tests.export.conftest import item

from stacpull import UsageError, sync


def test_the_lists_of_a_split_are_joined(mirrored: Any, tmp_path: Path) -> None:
    dest = mirrored([item(name, properties={"labels": ["x"]}) for name in "abcd"])
    for name in "abc":
        (tmp_path / name).write_text(f"# ids\nid,label\n{name},x\n")
    lists = [f"--split={split}=@{tmp_path}/{name}" for split, name in ("ta", "tc", "ub")]
    out = tmp_path / "labels.csv"
    assert run(["export", str(dest), str(out), "-f", "csv", *lists], environment()).code == 0
    found = {row["id"]: row["split"] for row in csv.DictReader(out.read_text().splitlines())}
    assert found == {"a": "t", "b": "u", "c": "t"}


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("geoparquet", "x.csv", ".*x.csv needs --format csv: geoparquet writes .parquet."),
        ("geoparquet", "x.json", "For geoparquet, .*x.json must end with .parquet; other formats are csv"),
        ("webdataset", "x.tar", "webdataset writes a directory of files: use a name without .tar"),
        ("csv", "x.parquet", ".*x.parquet needs --format geoparquet or parquet: csv writes .csv."),
        ("csv", "shards", "For csv, .*shards must end with .csv; other formats are .*t: choose one with"),
    ],
)
def test_a_table_is_not_written_under_the_name_of_another_format(mirrored, tmp_path, form, name, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        sync.export(mirrored([item("a")]), tmp_path / name, form)
