"""The files of a mix, and the pages that list them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts.benchmarks.mixes import MIXES, PAGE, File, write_files, write_pages

BASE = "http://origin"


def href(file: File) -> str:
    return f"{BASE}/r/{file.path}"


def test_bigearthnet_has_the_files_and_bytes_of_a_patch():
    patch = MIXES["ben"].files(1)
    assert len(patch) == 13
    assert sum(file.size for file in patch) == 4 * 29_192 + 6 * 7_560 + 2 * 1_160 + 1_300


@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
def test_names_are_unique_and_few_are_not_more(mix):
    files = mix.files(mix.items)
    assert len({file.path for file in files}) == len(files)
    assert len({(file.item, file.key) for file in files}) == len(files)
    assert 0 < mix.few <= mix.items


def test_files_have_their_sizes_and_differ(tmp_path: Path):
    files = [File("a", f"k{n}", f"{n}.tif", size) for n, size in enumerate((1, 999, 999, (8 << 20) + 1))]
    write_files(tmp_path, files)
    contents = [(tmp_path / "bench" / file.path).read_bytes() for file in files]
    assert [len(content) for content in contents] == [file.size for file in files]
    assert contents[1] != contents[2]


@pytest.mark.parametrize("items", [1, PAGE, 2 * PAGE + 1])
def test_pages_list_every_file_once(tmp_path: Path, items: int):
    files = [File(f"item{n}", "data", "data.tif", 1) for n in range(items)]
    write_pages(tmp_path, BASE, files, href)
    hrefs, page, pages = [], "items", 0
    while page:
        document = json.loads((tmp_path / "collections/bench" / page).read_text())
        assert document["numberMatched"] == items
        hrefs += [item["assets"]["data"]["href"] for item in document["features"]]
        following = [link["href"] for link in document["links"] if link["rel"] == "next"]
        page = following[0].removeprefix(f"{BASE}/collections/bench/") if following else ""
        pages += 1
    assert hrefs == [href(file) for file in files]
    assert pages == -(-items // PAGE)
    whole = json.loads((tmp_path / "items.json").read_text())
    assert [item["id"] for item in whole["features"]] == [file.item for file in files]
