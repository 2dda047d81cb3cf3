"""Memory does not grow with the number of items."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acceptance.command import environment, mirror_of, run

from stacpull.replicas import MlhubReplica, run_in_thread


@pytest.mark.slow
def test_twenty_thousand_items_take_the_memory_of_two_thousand(tmp_path: Path):
    peaks = {}
    with run_in_thread(MlhubReplica(items=20_000, seed=7)) as replica:
        for count in (2_000, 20_000):
            arguments = mirror_of(
                replica.base_url,
                tmp_path / str(count),
                "--no-source-links",
                "--max-items",
                str(count),
                "--json",
            )
            ran = run(arguments, environment(replica), timeout=110)
            assert (ran.code, ran.report["assets_done"]) == (0, count), ran.err
            peaks[count] = ran.peak_rss
            print(f"{count} items: {ran.peak_rss / 1e6:.1f} MB")  # noqa: T201 - the figure, with pytest -s
    assert peaks[20_000] <= min(1.1 * peaks[2_000], 120e6)
