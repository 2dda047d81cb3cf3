"""Memory does not grow with the number of items.

`STACPULL_MEMORY_ITEMS=50000 pytest tests/acceptance/test_memory.py` mirrors more of them than the suite does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.acceptance.command import COMMAND, Running, environment, mirror_of
from tests.bench import yardstick

from stacpull_replicas import MlhubReplica, run_in_thread

MANY = int(os.environ.get("STACPULL_MEMORY_ITEMS", "12000"))
FEW = MANY // 3
"""The first few thousand items fill buffers and the page cache of SQLite, which have limits."""
MOST = 130e6
"""Bytes of the network process and the store process together, whatever the number."""


def mirrored(replica: MlhubReplica, count: int, folder: Path) -> int:
    """Mirror the labels of so many items; return the most memory that took, in bytes.

    A small program starts it: Linux counts for a child what its parent was, and this one is large.
    """
    result = folder / f"{count}.json"
    options = ("--no-source-links", "--max-items", str(count), "--json")
    command = [str(COMMAND), *mirror_of(replica.base_url, folder / str(count), *options)]
    measured = ["-I", "-S", str(yardstick.__file__), str(result), "300", *command]
    with Running(measured, environment(replica), program=sys.executable) as process:
        ran = process.ended(310)
    taken = json.loads(result.read_text())
    assert (ran.code, taken["code"], ran.report["assets_done"]) == (0, 0, count), ran.err
    memory: int = taken["memory"]
    print(f"{count} items: {memory / 1e6:.1f} MB")  # noqa: T201 - the figure, with pytest -s
    return memory


@pytest.mark.alone  # memory that processes share is divided by how many there are
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_number_of_items(tmp_path: Path):
    with run_in_thread(MlhubReplica(items=MANY, seed=7)) as replica:
        few, many = (mirrored(replica, count, tmp_path) for count in (FEW, MANY))
    assert many <= min(1.1 * few, MOST)
