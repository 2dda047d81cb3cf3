"""The HTML report: its numbers, its safety against hostile text, and how chromium draws it."""

import asyncio
import base64
import hashlib
import itertools
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.export.browser import CHROMIUM, SCHEMES, WIDTHS, opened_page
from tests.export.conftest import item

import stacpull
from stacpull.ledger.database import open_writer
from stacpull.store.lock import mirror_lock
from stacpull_export.html_page import PageTemplate
from stacpull_export.html_report import Tally
from stacpull_export.mirrored_items import MirroredItem

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

POINT_AT_A_CELL = """(() => {
  const picture = document.querySelector("svg"), box = [...picture.querySelectorAll("path.cell")].at(-1)
    .getBoundingClientRect();
  picture.dispatchEvent(new PointerEvent("pointermove", {
    clientX: box.x + box.width / 2, clientY: box.y + box.height / 2,
  }));
  return picture.parentElement.lastElementChild.textContent;
})()"""


SCROLLING_TABLES = """[...document.querySelectorAll(".scroll")].filter((box) =>
  box.querySelector("table") && box.scrollWidth > box.clientWidth).length"""
COLUMN_NAMES = """document.querySelectorAll('text[transform*="rotate"]').length"""


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
        item("two", properties={"labels": ["PASTURES "], "datetime": "2018-01-01T00:00:00Z"},
             bbox=[170, -10, -170, 10], assets={"data": {"href": "./none.bin"}}),
        item(HOSTILE[:60], properties={"labels": [HOSTILE], "datetime": None},
             assets={HOSTILE: {"href": "./one.bin"}}),
    ]  # fmt: skip
    return Path(mirrored(items, {"one.bin": b"x" * 1000}))


def test_the_page_has_the_numbers_of_the_mirror(dest: Path, tmp_path: Path) -> None:
    data = data_of(written(dest, tmp_path / "report.html"))
    assert (data["items"], data["files"], data["failed"], data["bytes"]) == (3, 2, 1, 2000)
    assert dict(map(tuple, data["labels"])) == {"Pastures": 2, "Water bodies": 1, HOSTILE: 1}
    names = [name for name, _ in data["labels"]]
    assert [(names[a], names[b], n) for a, b, n in data["pairs"]] == [("Pastures", "Water bodies", 1)]
    assert data["months"] == [["2017-06", 1], ["2018-01", 1]]
    assert sum(cell[2] for cell in data["map"]["cells"]) == 3
    assert data["failures"][0]["what"] == "missing from the source"
    assert data["runs"][0]["files"] == 2


def test_each_run_keeps_the_number_of_its_files_when_later_runs_find_them_unchanged(mirrored, tmp_path):
    items = [item(name, assets={"data": {"href": f"./{name}.bin"}}) for name in ("one", "two")]
    for known in (items[:1], items, items):
        dest = mirrored(known, {"one.bin": b"1", "two.bin": b"22"})
    with closing(open_writer(dest)) as db:  # the first run was stopped, and has files left
        db.executescript("UPDATE runs SET state = 'failed' WHERE id = 1; UPDATE totals SET pending = 1")
    data = data_of(written(dest, tmp_path / "report.html"))
    assert [run["files"] for run in data["runs"]] == [1, 1, 0]
    assert data["state"] == stacpull.sync.status(dest).state == "failed"


def test_the_numbers_above_are_the_sums_of_the_tables(mirrored: Any, tmp_path: Path) -> None:
    assets = {"a": {"href": "./one.bin"}, "b": {"href": "./two.bin"}}
    for known in (assets, {"a": assets["a"]}):  # the item drops an asset, whose file stays
        dest = mirrored([item("i", assets=known)], {"one.bin": b"1", "two.bin": b"22"})
    data = data_of(written(dest, tmp_path / "report.html"))
    (row,) = data["collections"]
    assert (data["files"], data["bytes"]) == (row["files"], row["bytes"]) == (1, 1)


def test_a_run_that_was_killed_is_not_shown_as_running(dest: Path, tmp_path: Path) -> None:
    with closing(open_writer(dest)) as db:
        db.execute("UPDATE runs SET state = 'running'")
    next(dest.glob("c/one/*.json")).unlink()
    page = written(dest, tmp_path / "report.html")
    assert "1 item has no readable JSON" in page
    data = data_of(page)
    assert (data["state"], data["runs"][0]["state"]) == ("interrupted", "interrupted")
    with mirror_lock(dest):
        data = data_of(written(dest, tmp_path / "report.html"))
    assert (data["state"], data["runs"][0]["state"]) == ("running", "running")


def test_text_of_the_source_is_escaped(dest: Path, tmp_path: Path) -> None:
    page = written(dest, tmp_path / "report.html")
    assert page.count("</script>") == 2
    assert "<img" not in page
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: scripts/install-test-tools")
def test_a_browser_draws_the_report_and_runs_no_foreign_script(dest: Path, tmp_path: Path) -> None:
    written(dest, tmp_path / "report.html")

    async def look() -> None:
        async with opened_page() as page:
            for width, scheme in itertools.product(WIDTHS.values(), SCHEMES):
                await page.look(width, scheme)
                await page.open((tmp_path / "report.html").as_uri())
                assert not await page.is_too_wide()
                assert await page.run("document.querySelectorAll('path.cell').length") >= 3
                assert await page.run(SCROLLING_TABLES) == 0
                assert await page.run(COLUMN_NAMES) == 3
                assert await page.run("document.querySelector('.state').textContent") == "complete, 1 failed"
                assert await page.run("document.querySelector('.state.failed') !== null")
                dark = await page.run("getComputedStyle(document.body).backgroundColor")
                assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
            assert await page.run(POINT_AT_A_CELL) == "10°, 50°: 2 items"
            assert await page.run("document.title") == "Mirror of c"
            assert await page.run("document.querySelectorAll('img, script').length") == 2
            assert page.errors == []
            assert set(page.requests) == {(tmp_path / "report.html").as_uri()}

    asyncio.run(look())


def test_the_page_of_many_items_is_small_and_quickly_drawn(dest: Path, tmp_path: Path) -> None:
    """It depends on how many different places, keys, labels and hosts there are, and all are bounded."""
    page = data_of(written(dest, tmp_path / "report.html"))
    tally = Tally()
    for number in range(6_000):
        x, y = number % 355 - 179.5, number // 355 % 170 - 85
        labels = [f"label {number % 300}{'x' * 1000}", f"label {number % 7}", f"label {number % 11}"]
        document = item(str(number), properties={"labels": labels},
                        bbox=[x, y, x + 0.1, y + 0.1],
                        assets={f"key-{number}{'x' * 1000}": {"href": "./a", "file:size": 1}})  # fmt: skip
        tally.add(MirroredItem(f"c{number % 1000}", str(number), f"c/{number}/{number}.json", document, 0))
    body = PageTemplate("html_report.js").page("", {**page, **tally.charts({})}, "")[0]
    assert len(body) < 1_000_000
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: scripts/install-test-tools")
    (tmp_path / "many.html").write_bytes(body)

    async def look() -> None:
        async with opened_page() as browser:
            await browser.look(1280, "light")
            await browser.open((tmp_path / "many.html").as_uri())
            assert 0 < await browser.busy() < 1.5  # 0.2 are usual
            assert not await browser.is_too_wide()
            assert browser.errors == []

    asyncio.run(look())


def test_unbounded_names_take_bounded_memory() -> None:
    """An item with a thousand labels has half a million pairs of them."""
    whole = Tally()
    for number in range(12):
        names = [f"{number}-{n}" + "x" * 10_000 for n in range(1_000)]
        assets = {name: {"href": "./a", "file:size": 1, "alternate": {"origin": {"href": f"https://{name}/"}}}
                  for name in names}  # fmt: skip
        properties = {"labels": names, "datetime": f"{number:07d}"}
        whole.add(MirroredItem("c", "i", "c/i/i.json", {"properties": properties, "assets": assets}, 0))
    for counts in (whole.labels, whole.files, whole.sizes, whole.hosts):
        assert len(counts) == 10_000
        assert max(map(len, counts)) == 300
    assert len(whole.months) == 12
    assert len(whole.pairs) == 12 * 100 * 99 // 2
    assert whole.collections["c"] == [12, 12_000, 12_000]
    kinds = "labels, pairs of labels, asset keys, hosts"
    assert whole.notes() == [f"Too many to count all: {kinds}. Only the first ones are counted."]


def test_many_places_take_bounded_memory_and_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacpull_export.html_report._CELLS_ACROSS", 4)
    maps = []
    for limit in (10_000, 400):
        monkeypatch.setattr("stacpull_export.html_report._MAX_CELLS", limit)
        tally = Tally()
        for x, y in ((number * 7 % 301 / 10, number * 11 % 307 / 10) for number in range(3_000)):
            tally.add(MirroredItem("c", "i", "c/i/i.json", {"bbox": [x, y, x, y]}, 0))
        maps.append(tally.charts({})["map"]["cells"])
        assert len(tally.cells) <= limit
    assert maps[0] == maps[1]


def test_the_checksum_covers_every_file(dest: Path, tmp_path: Path) -> None:
    before = data_of(written(dest, tmp_path / "report.html"))["checksum"]
    lines = []
    for path in sorted(dest.glob("c/*/*.json")):
        document = json.loads(path.read_bytes())
        for _, asset in sorted(document["assets"].items()):
            if "file:checksum" in asset:
                local = path.parent / asset["href"]
                assert local.stat().st_size == asset["file:size"]
                lines.append((document["id"], f"{asset['file:checksum'][4:]}  {local.relative_to(dest)}\n"))
    assert before == hashlib.sha256("".join(line for _, line in sorted(lines)).encode()).hexdigest()
