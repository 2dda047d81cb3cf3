"""`stacpull headers`: its output and its documentation."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.items import feature
from tests.ran import Ran

from stacpull.cli.summary import FailureCounts
from stacpull_raster.header_rows import COLUMNS
from stacpull_raster.headers_command import headers_lines
from stacpull_raster.headers_report import HeadersReport

REPORT: dict[str, Any] = {"state": "complete", "items_seen": 3, "items_matched": 2, "headers_done": 24}


def test_the_table_of_the_terminal(stacpull_command: Callable[..., Ran], tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "B01": {"tile": (16, 16), "extratags": [(34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32630))]},
        "B02": {"extratags": [(34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1)), (42113, "s", 0, "\x1b[2J")]},
    }
    for key, kind in kinds.items():
        tifffile.imwrite(tmp_path / f"{key}.tif", np.zeros((30, 20), np.uint16), metadata=None, **kind)
    assets = {key: {"href": f"./{key}.tif"} for key in (*kinds, "B10")} | {"odd": None}
    assets["B11"] = assets["B10"]
    (tmp_path / "item.json").write_text(json.dumps(feature("i\x1b[2J", assets=assets)))
    ran = stacpull_command("headers", str(tmp_path / "item.json"), "--no-progress")
    assert ran.code == 1
    lines = [re.split(r"\s{2,}", line) for line in ran.out.splitlines()]
    assert lines[:3] == [
        ["item", "asset", "size", "type", "layout", "crs", "overviews", "nodata"],
        ["i�[2J", "B01", "20 x 30", "1 x uint16", "none, tiles 16 x 16", "EPSG:32630", "-", "-"],
        ["i�[2J", "B02", "20 x 30", "1 x uint16", "none, strips 20 x 30", "projected", "-", "�[2J"],
    ]
    assert lines[3][:2] == ["i�[2J", "B10"]
    assert lines[3][2].startswith("gone: ")
    assert lines[4][1:] == ["B11", "gone"]  # the reason is the same


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headers_failed": 1}, "24 of 25 headers in t.csv; 1 failed"),
        ({"headers_failed": 3, "headers_missing": 2, "missing_ok": True}, "; 1 failed; 2 missing from"),
        ({"headers_failed": 1}, "to retry failed headers: run the same command again"),
        ({"headers_failed": 2}, "failed   2 in earlier runs"),
        ({"state": "interrupted"}, "interrupted: 24 headers read\n"),
        ({"state": "interrupted"}, "to resume: run the same command again"),
        ({"assets_not_tiff": 3, "assets_excluded": 1000}, "left out 3 non-TIFF assets"),
        ({"items_unseen": 2}, "unseen   2 items that the source announced"),
        ({"reason": "It went in circles."}, "complete (It went in circles)"),
    ],
)
def test_the_summary(changes: dict[str, Any], message: str) -> None:
    report = HeadersReport(**{**REPORT, "headers_failed": 0, "out": "t.csv", **changes})
    assert message in "\n".join(headers_lines(report, FailureCounts()))


def test_the_docs_name_exactly_the_columns() -> None:
    text = (Path(__file__).parents[3] / "docs" / "headers.md").read_text()
    table = text.partition("| column | content |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == [c.name for c in COLUMNS]
