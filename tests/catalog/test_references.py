from __future__ import annotations

import pytest

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
