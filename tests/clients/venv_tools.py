"""Other people's clients, each in a venv of its own, run against a replica as child processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.servers.process import TOOLS

PROGRAMS = Path(__file__).parent / "programs"


def run(
    venv: str, program: str, *arguments: str | Path, env: Mapping[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program of a venv of tools with nothing but `env`; skips the test if it is not installed."""
    path = TOOLS / venv / "bin" / program
    if not path.exists():
        pytest.skip(f"{venv} is not installed: bash scripts/install-test-tools")
    done = subprocess.run(
        [str(path), *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{program}: {done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return done


def run_script(venv: str, name: str, *arguments: str | Path, env: Mapping[str, str]) -> str:
    return run(venv, "python", PROGRAMS / f"{name}.py", *arguments, env=env).stdout
