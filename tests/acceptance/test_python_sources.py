"""Items that a Python program has in hand are a SOURCE, and a notebook can run a mirror."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
from tests.acceptance.command import LABELS
from tests.acceptance.static_tree import asset_of, write_tree
from tests.serving import serving_files

import stacpull
from stacpull import Options, S3Options, Secret, Selection, UsageError, sync


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[str]:
    """The URL of a static catalog of one collection with four items."""
    root = tmp_path / "tree"
    root.mkdir()
    write_tree(root, 1, 4)
    with serving_files(root) as url:
        yield url


def items_of(tree: str) -> list[pystac.Item]:
    return [pystac.Item.from_file(f"{tree}/col0/col0-{n}/col0-{n}.json") for n in range(4)]


def dicts_of(tree: str) -> list[dict[str, Any]]:
    return [item.make_asset_hrefs_absolute().to_dict() for item in items_of(tree)]


OPEN = Options(allow_private_hosts=True)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        pytest.param(items_of, 4, id="a list of items"),
        pytest.param(lambda tree: items_of(tree)[0], 1, id="one item"),
        pytest.param(lambda tree: pystac.ItemCollection(items_of(tree)), 4, id="ItemCollection"),
        pytest.param(lambda tree: pystac.Catalog.from_file(f"{tree}/catalog.json"), 4, id="a catalog"),
        pytest.param(lambda tree: {"type": "FeatureCollection", "features": dicts_of(tree)}, 4, id="a dict"),
        pytest.param(lambda tree: dicts_of(tree)[1], 1, id="one item as a dict"),
        pytest.param(lambda _: iter([]), 0, id="no items"),
    ],
)
def test_items_are_a_source_and_continue_their_mirror(tree: str, tmp_path: Path, make, count: int) -> None:
    report = sync.mirror(make(tree), tmp_path / "m", options=OPEN)
    assert (report.state, report.items_matched, report.assets_done) == ("complete", count, count)
    files = sorted((tmp_path / "m").rglob("data.bin"))
    assert [file.read_bytes() for file in files] == [asset_of(file.parent.name) for file in files]
    assert len(files) == count
    again = sync.mirror(make(tree), tmp_path / "m", options=OPEN)
    assert (again.assets_done, again.assets_skipped) == (count, count)
    assert sync.plan(make(tree), tmp_path / "m", options=OPEN).assets == count


def test_an_iterator_may_be_bound_to_its_thread(tree: str, tmp_path: Path) -> None:
    def items():
        with closing(sqlite3.connect(":memory:")) as db:
            for item in items_of(tree):
                db.execute("SELECT 1")
                yield item

    async def mirror() -> stacpull.MirrorReport:
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.05) for _ in range(4)))  # starts threads
        return await stacpull.mirror(items(), tmp_path / "m", options=OPEN)

    assert asyncio.run(mirror()).items_matched == 4


@pytest.mark.parametrize(
    ("source_of", "collections", "url"),
    [
        (lambda client: client.search(collections=[LABELS], max_items=3), (), "stdin:"),
        (lambda client: client, LABELS, "http"),
        (lambda client: client.get_collection(LABELS), (), "http"),
    ],
)
def test_pystac_client_has_a_source(tmp_path, small_hub, source_of, collections, url):
    from pystac_client import Client  # noqa: PLC0415 - few tests need it

    client = Client.open(small_hub.base_url, parameters={"key": small_hub.key})
    report = sync.mirror(
        source_of(client),
        tmp_path / "m",
        selection=Selection(collections=collections, exclude_assets="B10", source_links=False, max_items=3),
        options=Options(
            query={"key": Secret(small_hub.key)},
            s3=S3Options(endpoint_url=small_hub.s3_url),
            headers={"Authorization": f"Bearer {small_hub.key}"},
            allow_private_hosts=True,
        ),
    )
    assert (report.items_matched, report.state) == (3, "complete")
    assert report.source.startswith(url)


TABLE = pd.DataFrame({"id": ["a"], "assets": [{}]})


@pytest.mark.parametrize(
    "source", [5, np.ones(2), b"http://127.0.0.1", [None], [{}, 5], iter([5]), object(), TABLE]
)
def test_an_invalid_source_is_a_usage_error(tmp_path: Path, source: object) -> None:
    with pytest.raises(UsageError, match=r"^source (must be|contains)"):
        sync.mirror(source, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_progress_bar_shows_a_run_and_a_check(tree: str, tmp_path: Path, capsys) -> None:
    sync.mirror(f"{tree}/catalog.json", tmp_path / "m", options=OPEN, on_event=stacpull.progress_bar())
    sync.verify(tmp_path / "m", on_event=stacpull.progress_bar())
    sync.export(tmp_path / "m", tmp_path / "m.csv", "csv", on_event=stacpull.progress_bar())
    shown = capsys.readouterr().err
    assert all(text in shown for text in ("opening ", "complete: 100%", "checking: 100%", "| 4/4 "))


def test_a_notebook_runs_a_mirror(tree: str, tmp_path: Path) -> None:
    import nbclient  # noqa: PLC0415 - few tests need it
    import nbformat  # noqa: PLC0415

    cells = [
        "import stacpull",
        f"source, dest = {tree + '/catalog.json'!r}, {str(tmp_path / 'm')!r}",
        "report = await stacpull.mirror(source, dest, on_event=stacpull.progress_bar())",
        "report",
        "await stacpull.mirror('nowhere.json', 'y')",
        f"from stacpull import sync\nsync.mirror({tree!r}, 'x')",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[4].metadata["tags"] = ["raises-exception"]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match=r"Use: await stacpull.mirror"):
        nbclient.NotebookClient(book, kernel_name="python3", timeout=300).execute()
    shown = book.cells[3].outputs[0].data
    assert "<tr><th>assets_done</th><td>4</td></tr>" in shown["text/html"]
    assert len(list((tmp_path / "m").rglob("data.bin"))) == 4
    assert [(found.output_type, found.ename) for found in book.cells[4].outputs] == [("error", "SourceError")]


@pytest.mark.parametrize("name", ["mirror", "plan", "collections", "classes", "headers"])
@pytest.mark.parametrize("source", ["https://[::1/v1", "https://[a]/v1"])
def test_an_invalid_url_is_refused_by_each_function(source: str, name: str, tmp_path: Path) -> None:
    second = [] if name == "collections" else [str(tmp_path / "new")]
    with pytest.raises(UsageError, match="SOURCE is not a valid URL"):
        getattr(sync, name)(source, *second)
