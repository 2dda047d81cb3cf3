"""The unchanged BigEarthNet notebook downloads the tree of the manifest from the replica.

Only the key, the base URL and `limit` (which the notebook does not define) are set.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.test_sentinelhub import cells_of

from stacpull_replicas import Dataset, MlhubReplica, manifest, run_in_thread

NOTEBOOK = "004_13151ba76ea8ec86.txt"
WANTED = {"Coniferous forest", "Rice fields"}


@pytest.fixture(scope="module")
def cells(shared_data: Path) -> list[str]:
    path = shared_data.parent / "seeds" / NOTEBOOK
    if not path.is_file():
        pytest.skip(f"no notebook at {path}")
    return [code for code, _ in cells_of(path.read_text())]


def run_notebook(cells: list[str], replica: MlhubReplica, folder: Path, limit: int) -> str:
    program = "\n\n".join(cells)
    for given, ours in (
        ("'PASTE_YOUR_API_KEY_HERE'", repr(replica.key)),
        ("'https://api.radiant.earth/mlhub/v1'", repr(replica.base_url)),
    ):
        assert program.count(given) == 1
        program = program.replace(given, ours)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | replica.exports()
    done = subprocess.run(
        [sys.executable, "-c", f"limit = {limit}\n{program}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def selection(dataset: Dataset, count: int) -> list[int]:
    """Return the selection of the last cell: either class, no cloud, no snow, the first `count`."""
    wanted = [
        p for p in dataset.patches() if WANTED & set(p.labels) and not (p.seasonal_snow or p.cloud_and_shadow)
    ]
    return [patch.index for patch in wanted[:count]]


def test_the_cells_are_found(cells):
    assert len(cells) == 7
    assert cells[0].startswith("# only the requests module")
    assert "def get_items" in cells[3]
    assert cells[-1].rstrip().endswith("max_items_downloaded=5)")


@pytest.mark.parametrize(("items", "limit", "era"), [(400, 100, "2022"), (400, 3, "2022"), (60, 30, "2021")])
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
