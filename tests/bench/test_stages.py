"""All stages of scripts/stages, for a few files over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.servers.process import ROOT

STAGES = {
    "transfer": {"aiohttp: redirect and file", "pool: a task for each asset", "pool: the fast path"},
    "items, disk and ledger": {"decode the page", "ledger: plan", "sha256", "write the part"},
    "threads of a mirror": {"loop", "store process"},
}


def test_each_stage_takes_time() -> None:
    command = [sys.executable, "-m", "tests.bench.stages", "--items", "3", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    reported = json.loads(done.stdout)
    found: dict[str, set[str]] = {}
    for stage in reported["stages"]:
        assert stage["microseconds"] > 0, stage
        found.setdefault(stage["table"], set()).add(stage["name"])
    assert found.keys() == STAGES.keys()
    assert all(found[table] >= STAGES[table] for table in STAGES), found
    assert reported["origin"].startswith(("nginx", "stacpull's own replica"))


def test_a_count_of_zero_is_refused() -> None:
    command = [sys.executable, "-m", "tests.bench.stages", "--rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--rounds" in done.stderr
