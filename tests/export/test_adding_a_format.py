"""The plugin of docs/howto/plugins.md adds a format: `export` then offers, describes and writes it."""

import os
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.command import environment, run
from tests.documents.pages import blocks_of

from .conftest import item

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "plugins.md"


def test_the_command_offers_describes_and_writes_it(mirrored: Callable[..., Path], tmp_path: Path) -> None:
    [module] = [block.text for block in blocks_of(PAGE.read_text()) if block.language == "python"]
    (tmp_path / "stacpull_ids.py").write_text(module)
    info = tmp_path / "ids-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ids\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stacpull.formats]\nids = stacpull_ids:IDS\n")
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), env["PYTHONPATH"]))

    dest, out = mirrored([item("b"), item("a")]), tmp_path / "ids.txt"
    assert "ids: a list of ids" in " ".join(run(["export", "--help"], env).out.split())
    ran = run(["export", str(dest), str(out), "-f", "ids", "--json", "--no-progress"], env)
    assert out.read_text() == "a\nb\n"
    assert (ran.report["items"], ran.report["files"], ran.report["bytes"]) == (2, ["ids.txt"], 4)
