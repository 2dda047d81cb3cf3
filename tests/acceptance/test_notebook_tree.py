"""The command of the issue makes, byte for byte, what the notebook's own code makes; but for B10."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acceptance.command import environment, mirror_of, run
from tests.acceptance.trees import digests_in, expected_files, metadata_files
from tests.notebooks import NOTEBOOK, cells_of, run_notebook, selection

from stacpull_replicas import MlhubReplica

pytestmark = pytest.mark.behaviour

SELECTION = (
    *("--label", "Coniferous forest", "--label", "Rice fields"),
    *("--no-cloud-and-shadow", "--no-seasonal-snow", "--max-items", "5"),
)


@pytest.fixture(scope="module")
def of_the_notebook(
    hub: MlhubReplica, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Digests of what the cell with the same selection makes, by path below `bigearthnet`."""
    path = shared_data.parent / "seeds" / NOTEBOOK
    folder = tmp_path_factory.mktemp("notebook")
    run_notebook([code for code, _ in cells_of(path)], hub, folder, limit=100)
    tree = digests_in(folder / "bigearthnet")
    chosen = selection(hub.dataset, 5)
    if 0 not in chosen:  # an earlier cell fetches the first item of all
        tree = {name: digest for name, digest in tree.items() if hub.dataset.name(0) not in name}
    return tree


def test_the_command_of_the_issue_makes_the_tree_of_the_notebook(hub, of_the_notebook, tmp_path):
    dest = tmp_path / "OUT"
    ran = run(mirror_of(hub.base_url, dest, *SELECTION), environment(hub))
    assert ran.code == 0, ran.err
    without_b10 = {name: digest for name, digest in of_the_notebook.items() if not name.endswith("_B10.tif")}
    assert len(without_b10) == 5 * 13
    assert digests_in(dest / "bigearthnet") == without_b10
    others = {name for name in digests_in(dest) if not name.startswith("bigearthnet/")}
    assert others == metadata_files(expected_files(hub.dataset, selection(hub.dataset, 5)))
