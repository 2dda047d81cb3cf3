"""Starts an empty STAC API and runs a command beside it (`scripts/with-pgstac`, which says more)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.servers.pgstac import pgstac


def main(command: list[str]) -> int:
    """Run `command` with STACPULL_PGSTAC=URL, and PG… for psql and pypgstac; return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with pgstac(Path(folder)) as service:
                environment = {**service.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
                environment["STACPULL_PGSTAC"] = service.url
                return subprocess.run(command, env=environment, check=False).returncode
        except pytest.skip.Exception as missing:
            print(f"with-pgstac: {missing}", file=sys.stderr)
            return 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
