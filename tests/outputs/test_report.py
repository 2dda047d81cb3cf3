"""The HTML report: its numbers, its safety against hostile text, and how chromium draws it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.outputs.conftest import item

import stacpull
from stacpull.outputs.html_report import _Tally, render
from stacpull.outputs.mirrored_items import MirroredItem

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def written(dest: Path, out: Path) -> str:
    asyncio.run(stacpull.report(dest, out))
    return out.read_text("utf-8")


@pytest.fixture
def dest(mirrored: Any) -> Path:
    items = [
        item("one", properties={"labels": ["Pastures", "Water bodies"]},
             assets={"data": {"href": "./one.bin"}}),
        item("two", properties={"labels": ["Pastures"], "datetime": "2018-01-01T00:00:00Z"},
             bbox=[170, -10, -170, 10], assets={"data": {"href": "./none.bin"}}),
        item(HOSTILE[:60], properties={"labels": [HOSTILE]}, assets={HOSTILE: {"href": "./one.bin"}}),
    ]  # fmt: skip
    return Path(mirrored(items, {"one.bin": b"x" * 1000}))


def test_the_page_has_the_numbers_of_the_mirror(dest: Path, tmp_path: Path) -> None:
    data = data_of(written(dest, tmp_path / "report.html"))
    assert (data["items"], data["files"], data["failed"], data["bytes"]) == (3, 2, 1, 2000)
    assert dict(map(tuple, data["labels"])) == {"Pastures": 2, "Water bodies": 1, HOSTILE: 1}
    names = [name for name, _ in data["labels"]]
    assert [(names[a], names[b], n) for a, b, n in data["pairs"]] == [("Pastures", "Water bodies", 1)]
    assert data["months"] == [["2017-06", 2], ["2018-01", 1]]
    assert sum(cell[2] for cell in data["map"]["cells"]) == 3
    assert data["failures"][0]["what"] == "gone at the source"
    assert data["runs"][0]["files"] == 2


def test_the_checksum_covers_every_file(dest: Path, tmp_path: Path) -> None:
    before = data_of(written(dest, tmp_path / "report.html"))["checksum"]
    lines = []
    for path in sorted(dest.glob("c/*/*.json")):
        document = json.loads(path.read_bytes())
        for _, asset in sorted(document["assets"].items()):
            if "file:checksum" in asset:
                local = path.parent / unquote(asset["href"])
                lines.append((document["id"], f"{asset['file:checksum'][4:]}  {local.relative_to(dest)}\n"))
    expected = hashlib.sha256("".join(line for _, line in sorted(lines)).encode()).hexdigest()
    assert before == expected


def test_nothing_of_the_source_is_markup(dest: Path, tmp_path: Path) -> None:
    page = written(dest, tmp_path / "report.html")
    assert page.count("</script>") == 2
    assert "<img" not in page
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_a_browser_draws_it_and_runs_nothing_else(dest: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    written(dest, tmp_path / "report.html")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert 'data-drawn="yes"' in found.stdout
    assert "<title>owned" not in found.stdout
    assert "CONSOLE" not in found.stderr
    assert found.stdout.count("<rect") >= 4


def test_a_mirror_without_items_has_a_page(mirrored: Any, tmp_path: Path) -> None:
    data = data_of(written(Path(mirrored([])), tmp_path / "report.html"))
    assert (data["items"], data["labels"], data["map"]["cells"]) == (0, [], [])


def test_the_page_of_many_items_is_small(dest: Path, tmp_path: Path) -> None:
    """Its size depends on how many different places, keys and labels there are, all of them bounded."""
    page = data_of(written(dest, tmp_path / "report.html"))
    tally = _Tally()
    for number in range(20_000):
        x, y = number % 355 - 179.5, number // 355 % 170 - 85
        labels = [f"label {number % 300}", f"label {number % 7}"]
        document = item(str(number), properties={"labels": labels},
                        bbox=[x, y, x + 0.1, y + 0.1],
                        assets={f"key-{number}": {"href": "./a", "file:size": 1}})  # fmt: skip
        tally.add(MirroredItem(f"c{number % 1000}", str(number), f"c/{number}/{number}.json", document))
    assert len(render({**page, **tally.charts({})})) < 500_000
