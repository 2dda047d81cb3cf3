"""Which documents in DEST the mirror itself wrote."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson
import pytest

from stacpull.catalog.item import is_own_document
from stacpull.store.inspection import DirectoryFiles


@pytest.mark.parametrize(
    ("catalog", "root", "is_ours"),
    [
        ("ours", "../catalog.json", True),
        ("none", "../catalog.json", True),
        ("of another program", "../catalog.json", False),
        ("ours", "../../catalog.json", False),
        ("ours", "https://api.example/catalog.json", False),
    ],
)
def test_a_document_belongs_to_the_mirror_if_its_root_does(
    tmp_path: Path, catalog: str, root: str, is_ours: bool
) -> None:
    name = "stacpull-mirror-api.example" if catalog == "ours" else "another"
    (tmp_path / "catalog.json").write_bytes(orjson.dumps({"type": "Catalog", "id": name}))
    (tmp_path / "c").mkdir()
    if catalog == "none":
        (tmp_path / "catalog.json").unlink()
    (tmp_path / "c/i.json").write_bytes(orjson.dumps({"links": [{"rel": "root", "href": root}]}))
    with closing(DirectoryFiles(tmp_path)) as files:
        assert is_own_document(files, "c/i.json") == is_ours
