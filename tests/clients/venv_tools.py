"""Other people's clients, each in a venv of its own, run against a replica as child processes."""

import atexit
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from tests.servers.process import TOOLS

PROGRAMS = Path(__file__).parent / "programs"
_IMPORTED = {"radiant-mlhub": "radiant_mlhub"}
"""Venvs whose programs are forked from a process that has imported this: it takes most of their time."""
_NOBODY = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def run(
    venv: str, program: str, *arguments: str | Path, env: Mapping[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program of a venv of tools with nothing but `env`; skips the test if it is not installed."""
    path = TOOLS / venv / "bin" / program
    if not path.exists():
        pytest.skip(f"{venv} is not installed: bash scripts/install-test-tools")
    command = [str(path), *map(str, arguments)]
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        if venv in _IMPORTED:
            forking = _forking(venv)
            assert forking.stdin is not None
            assert forking.stdout is not None
            request = [command[program == "python" :], dict(env), out.name, err.name]
            forking.stdin.write(json.dumps(request) + "\n")
            forking.stdin.flush()
            code = int(forking.stdout.readline())
        else:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            code = subprocess.run(command, env=_NOBODY | env, check=False, **streams).returncode
        done = subprocess.CompletedProcess(command, code, *(Path(one.name).read_text() for one in (out, err)))
    assert not check or code == 0, f"{program}: {done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return done


@cache
def _forking(venv: str) -> subprocess.Popen[str]:
    command = [TOOLS / venv / "bin" / "python", PROGRAMS / "forking.py", _IMPORTED[venv]]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=_NOBODY, stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.communicate)
    return process


def run_script(venv: str, name: str, *arguments: str | Path, env: Mapping[str, str]) -> str:
    return run(venv, "python", PROGRAMS / f"{name}.py", *arguments, env=env).stdout
