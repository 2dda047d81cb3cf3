"""Reading catalogs of a mirror: collections and items in the order in which they were written."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson
import pytest
from tests.catalog import mirror

from stacpull.catalog import catalog_tree
from stacpull.catalog.catalog_tree import CollectionEntry
from stacpull.catalog.collection import collection_document
from stacpull.catalog.contents import is_own_document, listed_collections, read_json, top_catalog
from stacpull.catalog.item_assets import without_items_parquet
from stacpull.models import ItemId
from stacpull.store.inspection import DirectoryFiles

LINKS = [{"rel": "license", "href": "https://l.example/"}, {"rel": "self", "href": "https://s.example/"}]
DOCUMENT = {"id": "c", "description": "d", "license": "CC0", "extent": {}, "links": LINKS}


def written(dest: Path, count: int) -> list[tuple[str, str]]:
    """Write catalogs of two collections with `count` items each. Return the items of the first."""
    items = {name: [(f"i{n:03}", f"{name}/i{n:03}/i{n:03}.json") for n in range(count)] for name in "cb"}
    entries = [
        CollectionEntry(name, name, {**DOCUMENT, "id": name}, lambda n=name: iter(items[n])) for name in "cb"
    ]  # type: ignore[misc] # bound at once

    mirror.written(dest, entries)
    return items["c"]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 23])
def test_written_catalogs_are_read_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(catalog_tree, "ITEMS_PER_CATALOG", 5)
    items = written(tmp_path, count)
    directory = DirectoryFiles(tmp_path)
    top = top_catalog(directory)
    assert top is not None
    found = list(listed_collections(directory, top))
    assert [one.id for one in found] == ["c", "b"]
    assert list(found[0].items()) == [(ItemId("c", name), path) for name, path in items]
    files = [file.path for file in found[0].files()]
    directory.close()
    assert files == [
        "c/collection.json",
        *sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("c/items-*")),
    ]


def test_a_collection_document_gives_the_same_file_again(tmp_path: Path) -> None:
    written(tmp_path, 2)
    with closing(DirectoryFiles(tmp_path)) as files:
        top = top_catalog(files)
        assert top is not None
        first = next(listed_collections(files, top))
    again = collection_document("c", orjson.loads(first.document), base=None)
    assert again == collection_document("c", DOCUMENT, base=None)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"id": "another"}', None])
def test_a_catalog_of_another_program_is_not_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "catalog.json").write_bytes(content)
    with closing(DirectoryFiles(tmp_path)) as files:
        assert top_catalog(files) is None


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
    written(tmp_path, 0)
    if catalog != "ours":
        (tmp_path / "catalog.json").write_bytes(b'{"type": "Catalog", "id": "another"}')
    if catalog == "none":
        (tmp_path / "catalog.json").unlink()
    (tmp_path / "c/i.json").write_bytes(orjson.dumps({"links": [{"rel": "root", "href": root}]}))
    with closing(DirectoryFiles(tmp_path)) as files:
        assert is_own_document(files, "c/i.json") == is_ours


def test_an_asset_of_the_source_is_not_taken_for_that_of_items_parquet() -> None:
    document = {"assets": {"collection-mirror": {"href": "https://s.example/items.parquet"}}}
    assert without_items_parquet(document) == document


def test_nothing_is_read_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(b"{}")
    (tmp_path / "link.json").symlink_to("real.json")
    with closing(DirectoryFiles(tmp_path)) as files:
        assert read_json(files, "link.json") is None
        assert read_json(files, "real.json") is not None
