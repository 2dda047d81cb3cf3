"""The unchanged BigEarthNet notebook downloads the tree of the manifest from the replica.

Only the key, the base URL and `limit` (which the notebook does not define) are set.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.notebooks import NOTEBOOK, cells_of, run_notebook, selection

from stacpull_replicas import Dataset, MlhubReplica, manifest, run_in_thread


@pytest.fixture(scope="module")
def cells(shared_data: Path) -> list[str]:
    return [code for code, _ in cells_of(shared_data.parent / "seeds" / NOTEBOOK)]


@pytest.mark.parametrize(("items", "limit", "era"), [(100, 3, "2022"), (60, 30, "2021")])
def test_the_notebook_runs_unchanged(cells, tmp_path, items, limit, era):
    with run_in_thread(MlhubReplica(items=items, seed=7, era=era)) as replica:
        output = run_notebook(cells, replica, tmp_path, limit)
    assert "ID:       bigearthnet_v1_labels" in output
    assert "- Coniferous forest" in output

    dataset = Dataset(items, 7)
    expected = {}
    for index in {0, *selection(dataset, 5)}:
        folder = f"bigearthnet/bigearthnet_v1_labels_{dataset.name(index)}"
        expected |= {f"{folder}/{file.name}": file.sha256 for file in manifest(dataset, index)}
    found = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    pages = {name: path for name, path in found.items() if name.endswith("_B10.tif")}
    bands = {name: path for name, path in found.items() if name not in pages}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in bands.items()} == expected
    assert len(pages) == len(expected) / 13
    for path in pages.values():
        assert b"<Code>BlobNotFound</Code>" in path.read_bytes()  # the error page is saved as a band
