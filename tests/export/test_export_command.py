"""The options of `stacpull export` that are not options of a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacpull import UsageError, sync
from stacpull_export.export_command import _splits


def test_the_lists_of_a_split_are_joined(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(f"# ids\n{name},x\n")
    lists = [f"{split}=@{tmp_path}/{name}" for split, name in (("train", "a"), ("test", "b"), ("train", "c"))]
    assert _splits(lists) == {"train": ("a", "c"), "test": ("b",)}


@pytest.mark.parametrize(
    ("form", "name", "use"),
    [
        ("geoparquet", "x.csv", "use format csv for .csv"),
        ("geoparquet", "x.geojson", "other formats are csv, "),
        ("csv", "x.parquet", "use format geoparquet or parquet for .parquet"),
        ("csv", "x", "other formats are csv, "),
        ("geoparquet", "shards", "other formats are csv, .*webdataset"),
    ],
)
def test_a_table_is_not_written_under_the_name_of_another_format(tmp_path, form, name, use):
    with pytest.raises(UsageError, match=f"For {form}, .*{name} must end with .*; {use}"):
        sync.export(tmp_path, tmp_path / name, form)
