"""The unchanged notebook downloads the tree of the manifest from the replica, and the command makes the same.

Of the notebook, only the key, the base URL and `limit` (which it does not define) are set.
"""

from pathlib import Path

import pytest
from tests.acceptance.command import environment, mirror_of, run
from tests.acceptance.trees import digests_in, expected_files, metadata_files
from tests.notebooks import NOTEBOOK, cells_of, run_notebook, selection

from stacpull_replicas import MlhubReplica, run_in_thread

SELECTION = (
    *("--label", "Coniferous forest", "--label", "Rice fields"),
    *("--no-cloud-and-shadow", "--no-seasonal-snow", "--max-items", "5"),
)


@pytest.mark.parametrize(("items", "limit", "era"), [(100, 3, "2022"), (60, 30, "2021")])
def test_the_command_of_the_issue_makes_the_tree_of_the_notebook(
    shared_data: Path, tmp_path: Path, items: int, limit: int, era: str
) -> None:
    cells = [code for code, _ in cells_of(shared_data.parent / "seeds" / NOTEBOOK)]
    theirs, ours = tmp_path / "notebook", tmp_path / "OUT"
    theirs.mkdir()
    with run_in_thread(MlhubReplica(items=items, seed=7, era=era)) as replica:
        output = run_notebook(cells, replica, theirs, limit)
        ran = run(mirror_of(replica.base_url, ours, *SELECTION), environment(replica))
        dataset = replica.dataset
    assert "ID:       bigearthnet_v1_labels" in output
    assert "- Coniferous forest" in output
    assert ran.code == 0, ran.err
    found, chosen = digests_in(theirs), selection(dataset, 5)
    pages = [name for name in found if name.endswith("_B10.tif")]
    every = expected_files(dataset, {0, *chosen})  # an earlier cell fetches the first item of all
    wanted = expected_files(dataset, chosen)
    assert {name: found[name] for name in found.keys() - pages} == {n: f.sha256 for n, f in every.items()}
    assert len(pages) == len(every) / 13
    for name in pages:
        assert b"<Code>BlobNotFound</Code>" in (theirs / name).read_bytes()  # the page of an error is saved
    documents = digests_in(ours)
    assert metadata_files(wanted) == documents.keys() - wanted.keys()
    assert {name: documents[name] for name in wanted} == {name: file.sha256 for name, file in wanted.items()}
