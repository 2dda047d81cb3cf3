"""The memory that a large document takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.items import feature

_ITEMS = 6_000
_WATCHED = """
import resource, subprocess, sys
ran = subprocess.run(sys.argv[1:], capture_output=True)
assert ran.returncode == 0, ran.stderr
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def test_an_item_collection_takes_at_max_twice_its_size(tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    properties = {"datetime": "2020-01-01T00:00:00Z", "text": "x" * 16_000, **{f"p{n}": n for n in range(40)}}
    with source.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number in range(_ITEMS):
            file.write(("," if number else "") + json.dumps(feature(f"i{number}", properties=properties)))
        file.write("]}")
    command = [sys.executable, "-m", "stacpull", "plan", str(source), "--no-progress"]
    ran = subprocess.run(
        [sys.executable, "-c", _WATCHED, *command], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(ran.stdout) < 2 * source.stat().st_size
