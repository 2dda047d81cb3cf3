"""Memory does not grow with the number of items.

`STACPULL_MEMORY_ITEMS=50000 pytest tests/acceptance/test_memory.py` mirrors more of them than the suite does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.acceptance.command import Running, environment, mirror_of
from tests.security.watch import children_of

from stacpull_replicas import MlhubReplica, run_in_thread

pytestmark = pytest.mark.behaviour

MANY = int(os.environ.get("STACPULL_MEMORY_ITEMS", "9000"))
FEW = MANY // 2
"""The first few thousand items fill buffers and the page cache of SQLite, which have limits."""
MOST = 120e6
"""Bytes of own memory of the network process and the store process together, whatever the number."""


def most_memory(replica: MlhubReplica, dest: Path) -> tuple[int, int]:
    """Mirror the labels of all items; return the most bytes until `FEW` were requested, and the most of all.

    Bytes of the processes' own memory: what they map from files may be shared with other processes. Pages are
    small, because a large one takes up to 9 MB for so short a time that only some measurements would see it.
    """
    few = many = 0
    command = mirror_of(replica.base_url, dest, "--no-source-links", "--page-size", "500", "--json")
    with Running(command, environment(replica), forked=False) as process:
        while process.is_alive():
            time.sleep(0.1)
            requested = replica.counters["api", "download"]
            taken = sum(map(own_memory, (process.pid, *children_of(process.pid)))) if requested else 0
            many = max(many, taken)
            few = many if requested <= FEW else few
        ran = process.ended()
    assert (ran.code, ran.report["assets_done"]) == (0, MANY), ran.err
    print(f"{FEW} items: {few / 1e6:.1f} MB, {MANY} items: {many / 1e6:.1f} MB")  # noqa: T201 - with pytest -s
    return few, many


def own_memory(pid: int) -> int:
    """Return the memory of a process that no file holds, in bytes (proc(5), smaps_rollup)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_number_of_items(tmp_path: Path):
    with run_in_thread(MlhubReplica(items=MANY, seed=7)) as replica:
        few, many = most_memory(replica, tmp_path / "m")
    assert 0 < many <= min(1.1 * few, MOST)
