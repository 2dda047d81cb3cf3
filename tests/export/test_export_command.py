"""The options of `stacpull export` that are not options of a mirror."""

from __future__ import annotations

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
        (tmp_path / name).write_text(f"# ids\n{name},x\n")
    lists = [f"--split={split}=@{tmp_path}/{name}" for split, name in ("ta", "tc", "ub")]
    out = tmp_path / "labels.csv"
    assert run(["export", str(dest), str(out), "-f", "csv", *lists], environment()).code == 0
    found = {row["id"]: row["split"] for row in csv.DictReader(out.read_text().splitlines())}
    assert found == {"a": "t", "b": "u", "c": "t"}


@pytest.mark.parametrize(
    ("form", "name", "use"),
    [
        ("geoparquet", "x.csv", "use format csv for .csv"),
        ("geoparquet", "x.geojson", "other formats are csv "),
        ("csv", "x.parquet", "use format geoparquet or parquet for .parquet"),
        ("csv", "shards", "other formats are csv .*webdataset .tar shards."),
    ],
)
def test_a_table_is_not_written_under_the_name_of_another_format(mirrored, tmp_path, form, name, use):
    with pytest.raises(UsageError, match=f"For {form}, .*{name} must end with .*; {use}"):
        sync.export(mirrored([item("a")]), tmp_path / name, form)
