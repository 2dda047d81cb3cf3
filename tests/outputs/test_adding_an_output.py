"""A new output is a module and an entry of `FORMATS`: the command then offers, describes and writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .conftest import item

MODULE = '''
from stacpull.reports import ExportReport
from stacpull.store.atomic import whole_file

def export_ids(contents, out, options, on_progress):
    """Write the ids of the items, one per line."""
    ids = [one.id for one in contents.items()]
    with whole_file(out) as file:
        file.write("".join(f"{one}\\n" for one in ids).encode())
    on_progress(len(ids))
    return ExportReport(len(ids), (out.name,), out.stat().st_size)
'''
ENTRY = """
import sys
from stacpull.cli.main import execute
from stacpull.outputs.formats import FORMATS, Format
FORMATS["ids"] = Format("ids_output:export_ids", "a list of ids")
sys.exit(execute())
"""


def test_the_command_offers_describes_and_writes_it(mirrored: Callable[..., Path], tmp_path: Path) -> None:
    dest = mirrored([item("b"), item("a")])
    (tmp_path / "ids_output.py").write_text(MODULE)

    def run(*arguments: str | Path) -> str:
        command = [sys.executable, "-c", ENTRY, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100"}
        return subprocess.run(
            command, env=environment, timeout=60, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    assert "ids: a list of ids" in " ".join(run("export", "--help").split())
    report = json.loads(run("export", dest, tmp_path / "ids.txt", "-f", "ids", "--json", "--no-progress"))
    assert (tmp_path / "ids.txt").read_text() == "a\nb\n"
    assert (report["items"], report["files"], report["bytes"]) == (2, ["ids.txt"], 4)
