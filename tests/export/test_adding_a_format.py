"""A package of someone else adds a format of `export`: the command then offers, describes and writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run

from .conftest import item

pytestmark = pytest.mark.behaviour

MODULE = '''
from stacpull_export.atomic_file import atomic_file
from stacpull_export.formats import ExportReport, Format

IDS = Format("ids:export_ids", "a list of ids")

def export_ids(contents, out, options, on_progress):
    """Write the ids of the items, one per line."""
    ids = [one.id for one in contents.items()]
    with atomic_file(out) as file:
        file.write("".join(f"{one}\\n" for one in ids).encode())
    on_progress(len(ids))
    return ExportReport(len(ids), (out.name,), out.stat().st_size)
'''


def test_the_command_offers_describes_and_writes_it(mirrored: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "ids.py").write_text(MODULE)
    info = tmp_path / "ids-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ids\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stacpull.formats]\nids = ids:IDS\n")
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), env["PYTHONPATH"]))

    dest, out = mirrored([item("b"), item("a")]), tmp_path / "ids.txt"
    assert "ids: a list of ids" in " ".join(run(["export", "--help"], env).out.split())
    ran = run(["export", str(dest), str(out), "-f", "ids", "--json", "--no-progress"], env)
    assert out.read_text() == "a\nb\n"
    assert (ran.report["items"], ran.report["files"], ran.report["bytes"]) == (2, ["ids.txt"], 4)
