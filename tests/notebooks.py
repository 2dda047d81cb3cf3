"""The notebooks of users: their cells, and that of BigEarthNet run on a replica."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stacpull_replicas import Dataset, MlhubReplica


def is_python(text: str) -> bool:
    try:
        ast.parse(re.sub(r"^%.*$", "", text, flags=re.MULTILINE))
    except SyntaxError:
        return False
    return True


def is_output(text: str) -> bool:
    """Whether text is a value that a cell showed, or a heading that looks like a comment."""
    if all(line.startswith("#") for line in text.split("\n")):
        return True
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return True


def cells_of(notebook: Path) -> list[tuple[str, str]]:
    """Code and what follows it, of each cell: code is the longest start that is Python and no mere value."""
    if not notebook.is_file():
        pytest.skip(f"no notebook at {notebook}")
    cells = []
    for chunk in re.split(r"^In \[(?:None|\d+)\]:\n", notebook.read_text(), flags=re.MULTILINE)[1:]:
        parts = chunk.strip("\n").split("\n\n")
        count = next(n for n in range(len(parts), 0, -1) if is_python("\n\n".join(parts[:n])))
        while count > 1 and is_output(parts[count - 1]):
            count -= 1
        cells.append(("\n\n".join(parts[:count]), "\n\n".join(parts[count:])))
    return cells


NOTEBOOK = "004_13151ba76ea8ec86.txt"
WANTED = {"Coniferous forest", "Rice fields"}


def run_notebook(cells: list[str], replica: MlhubReplica, folder: Path, limit: int) -> str:
    program = "\n\n".join(cells)
    for given, ours in (
        ("'PASTE_YOUR_API_KEY_HERE'", repr(replica.key)),
        ("'https://api.radiant.earth/mlhub/v1'", repr(replica.base_url)),
    ):
        assert program.count(given) == 1
        program = program.replace(given, ours)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | replica.exports()
    done = subprocess.run(
        [sys.executable, "-c", f"limit = {limit}\n{program}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def selection(dataset: Dataset, count: int) -> list[int]:
    """Return the selection of the last cell: either class, no cloud, no snow, the first `count`."""
    wanted = [
        p for p in dataset.patches() if WANTED & set(p.labels) and not (p.seasonal_snow or p.cloud_and_shadow)
    ]
    return [patch.index for patch in wanted[:count]]
