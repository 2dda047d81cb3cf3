"""A new output is a module and an entry of `FORMATS`: the command then offers, describes and writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy

from .conftest import item

pytestmark = pytest.mark.behaviour

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
ENTRY = '    "ids": Format("stacpull.outputs.ids:export_ids", "a list of ids"),\n'


def test_the_command_offers_describes_and_writes_it(mirrored: Callable[..., Path], tmp_path: Path) -> None:
    copy = ChangedCopy(tmp_path / "copy")
    copy.add("outputs/ids.py", MODULE)
    copy.insert("outputs/formats.py", ENTRY, before='    "csv": Format(')
    assert copy.changed == {"outputs/ids.py": None, "outputs/formats.py": 1}

    dest, out = mirrored([item("b"), item("a")]), tmp_path / "ids.txt"
    assert "ids: a list of ids" in " ".join(copy.output("export", "--help").split())
    report = json.loads(copy.run("export", dest, out, "-f", "ids", "--json", "--no-progress").stdout)
    assert out.read_text() == "a\nb\n"
    assert (report["items"], report["files"], report["bytes"]) == (2, ["ids.txt"], 4)
