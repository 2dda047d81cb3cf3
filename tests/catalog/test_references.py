from __future__ import annotations

from pathlib import Path

import pytest
from pystac.utils import make_absolute_href

from stacpull.catalog.item import reference


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("c/i/i.json", "", "./c/i/i.json"),
        ("catalog.json", "c/i", "../../catalog.json"),
        ("c/collection.json", "c/i", "../collection.json"),
        ("c/i/B01.tif", "c/i", "./B01.tif"),
        ("c/i/deep/B01.tif", "c/i", "./deep/B01.tif"),
        ("bigearthnet/p/p_B01.tif", "c/i", "../../bigearthnet/p/p_B01.tif"),
        ("c/ii/ii.json", "c/i", "../ii/ii.json"),
        ("c/i/a:b.tif", "c/i", "./a:b.tif"),
        ("c/i/a~23b~20ü.tif", "c/i", "./a~23b~20ü.tif"),
    ],
)
def test_reference(path: str, directory: str, expected: str) -> None:
    assert reference(path, directory) == expected


@pytest.mark.parametrize(
    "name",
    [
        "a b.tif",
        " a.tif ",
        "a%23b.tif",
        "a%2523b.tif",
        "100%25.tif",
        "ünïcödé 文件.tif",
        "a:b.tif",
        "[x]&y=z+w,~.tif",
        "'(1)'.tif",
        "..a",
        "-rf",
    ],
)
def test_the_referenced_file_exists(tmp_path: Path, name: str) -> None:
    place = tmp_path / "c" / "i" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    opened = make_absolute_href(reference(f"c/i/{name}", "c/i"), str(tmp_path / "c" / "i" / "i.json"))
    assert Path(opened).read_bytes() == b"x"
