"""`stacpull headers`: its output and its documentation."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Ran

from stacpull_raster.header_rows import COLUMNS
from stacpull_raster.headers_report import HeadersReport

Command = Callable[..., Ran]
REPORT: dict[str, Any] = {"state": "complete", "items_seen": 3, "items_matched": 2, "headers_done": 24}
ROW: dict[str, Any] = {
    **dict.fromkeys(column.name for column in COLUMNS),
    "item": "i",
    "asset": "B01",
    "width": 20,
    "height": 30,
    "bands": 1,
    "dtype": "uint16",
    "compression": "deflate",
    "tiled": True,
    "block_width": 512,
    "block_height": 512,
    "epsg": 32630,
    "overviews": [[10, 15], [5, 8]],
    "nodata": "nan",
}


class FakeLibrary:
    """Replaces `stacpull_raster.header_table`."""

    def __init__(self) -> None:
        self.report = HeadersReport(**REPORT, headers_failed=0)
        self.rows: list[Mapping[str, Any]] = []

    async def headers(self, *_: Any, on_row: Any, **__: Any) -> HeadersReport:
        if on_row is not None:
            await asyncio.to_thread(lambda: [on_row(row) for row in self.rows])
        return self.report


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library, module = FakeLibrary(), types.ModuleType("stacpull_raster.header_table")
    module.headers = library.headers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stacpull_raster.header_table", module)
    return library


def test_the_table_of_the_terminal(stacpull_command: Command, library: FakeLibrary) -> None:
    failed = {**dict.fromkeys(ROW), "item": "i", "asset": "B10", "failure": "gone", "error": "Not there."}
    plain = {**ROW, "asset": "B02", "tiled": False, "epsg": None, "overviews": [], "nodata": None}
    library.rows = [ROW, plain, {**plain, "crs_kind": "projected"}, failed, {**failed, "asset": None}]
    ran = stacpull_command("headers", "http://s", "--no-progress")
    assert ran.out.splitlines() == [
        "item  asset  size     type        layout                     crs         overviews  nodata",
        "i     B01    20 x 30  1 x uint16  deflate, tiles 512 x 512   EPSG:32630  10 5       nan",
        "i     B02    20 x 30  1 x uint16  deflate, strips 512 x 512  -           -          -",
        "i     B02    20 x 30  1 x uint16  deflate, strips 512 x 512  projected   -          -",
        "i     B10    gone: Not there.",
        "i            gone: Not there.",
    ]


def test_control_characters_of_servers_do_not_reach_the_terminal(
    stacpull_command: Command, library: FakeLibrary
) -> None:
    library.rows = [{**ROW, "item": "i\x1b[2J", "nodata": "\x07"}]
    ran = stacpull_command("headers", "http://s", "--no-progress")
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headers_failed": 1}, "1 failed"),
        ({"headers_failed": 1}, "to retry failed headers: run the same command again"),
        ({"state": "interrupted"}, "to resume: run the same command again"),
        ({"assets_not_tiff": 3, "assets_excluded": 1000}, "skipped  3 non-TIFF assets"),
        ({"items_unseen": 2}, "unseen   2 items that the source announced"),
        ({"reason": "It went in circles."}, "complete (It went in circles)"),
    ],
)
def test_the_summary(
    stacpull_command: Command, library: FakeLibrary, changes: dict[str, Any], message: str
) -> None:
    library.report = HeadersReport(**{**REPORT, "headers_failed": 0, "out": "t.csv", **changes})
    assert message in stacpull_command("headers", "http://s", "-o", "t.csv").out


DOCS = Path(__file__).parents[3] / "docs"


def test_the_docs_name_exactly_the_columns() -> None:
    text = (DOCS / "headers.md").read_text()
    table = text.partition("| column | content |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == [c.name for c in COLUMNS]
