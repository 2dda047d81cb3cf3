import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pystac
import pytest
from pystac.stac_object import STACObjectType
from tests.catalog.mirror import Mirror, core_valid, written

from stacpull.catalog.catalog_tree import CollectionEntry
from stacpull.errors import InterruptedRunError
from stacpull.models import Json


def entry(count: int, *, name: str = "c", **options: Any) -> CollectionEntry:
    def items() -> Iterator[tuple[str, str]]:
        return ((f"i{n}", f"{name}/i{n}/i{n}.json") for n in range(count))

    own = {"id": name, "directory": name, "document": None, "items": items, "base": None, "mirrored": {}}
    return CollectionEntry(**own | options)


def links(path: Path, rel: str) -> list[str]:
    return [link["href"] for link in orjson.loads(path.read_bytes())["links"] if link["rel"] == rel]


def tree(dest: Path) -> dict[str, bytes]:
    return {p.relative_to(dest).as_posix(): p.read_bytes() for p in dest.rglob("*") if p.is_file()}


def head(path: Path) -> Json:
    """Read a document with only its first links: validating 10,000 takes too long."""
    document: Json = orjson.loads(path.read_bytes())
    return {**document, "links": document["links"][:10]}


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (10_000, []), (10_001, [10_000, 1]), (25_000, [10_000, 10_000, 5_000])]
)
def test_more_than_10_000_items_need_sub_catalogs(tmp_path: Path, count: int, sizes: list[int]) -> None:
    assert len(written(tmp_path, entry(count))) == 2 + len(sizes)
    names = [f"items-{number:06d}.json" for number in range(1, len(sizes) + 1)]
    assert sorted(tree(tmp_path / "c")) == ["collection.json", *names]
    collection = tmp_path / "c" / "collection.json"
    assert links(collection, "child") == [f"./{name}" for name in names]
    lists = [links(tmp_path / "c" / name, "item") for name in names] or [links(collection, "item")]
    assert [len(part) for part in lists] == (sizes or [count])
    assert [href for part in lists for href in part] == [f"./i{n}/i{n}.json" for n in range(count)]
    core_valid(head(collection), STACObjectType.COLLECTION)
    for name in [*names, "../catalog.json"]:
        core_valid(head(tmp_path / "c" / name), STACObjectType.CATALOG)


def test_pystac_walks_through_sub_catalogs_up_and_down(tmp_path, monkeypatch):
    monkeypatch.setattr("stacpull.catalog.catalog_tree.ITEMS_PER_CATALOG", 2)
    mirror = Mirror(tmp_path)
    for number in range(5):
        mirror.add({"id": f"i{number}", "properties": {"datetime": "2020-01-01T00:00:00Z"}}, "c")
    assert len(mirror.catalogs()) == 5
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    (collection,) = catalog.get_children()
    assert [child.id for child in collection.get_children()] == [f"c-items-00000{n}" for n in (1, 2, 3)]
    assert all(child.get_parent() is collection for child in collection.get_children())
    assert [item.id for item in catalog.get_items(recursive=True)] == [f"i{n}" for n in range(5)]


def test_only_changed_files_are_written(tmp_path: Path) -> None:
    written(tmp_path, entry(25_000), entry(2, name="d"))
    before = tree(tmp_path)
    assert written(tmp_path, entry(25_000), entry(2, name="d")) == []
    assert tree(tmp_path) == before
    assert written(tmp_path, entry(25_001), entry(2, name="d")) == ["c/items-000003.json"]
    name = "d/collection.json"
    assert written(tmp_path, entry(25_001), entry(2, name="d"), unrecorded=name) == [name]


@pytest.mark.parametrize(
    "content", [b'{"type":"FeatureCollection","id":"c-items-000004"}', b'{"type":"Catalog","id":"mine"}']
)
def test_a_smaller_mirror_removes_only_its_own_sub_catalogs(tmp_path: Path, content: bytes) -> None:
    written(tmp_path, entry(35_000))
    strange = tmp_path / "c" / "items-000004.json"
    strange.write_bytes(content)
    written(tmp_path, entry(5))
    assert sorted(tree(tmp_path / "c")) == ["collection.json", "items-000004.json"]
    assert strange.read_bytes() == content


def test_memory_is_bounded_by_one_sub_catalog(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        dest = tmp_path / str(count)
        dest.mkdir()
        tracemalloc.start()
        written(dest, entry(count))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)  # one-time imports and caches
    small, large = peak(10_000), peak(40_000)
    assert large < small * 1.1 + 500_000
    assert large < 32 * 2**20


@pytest.mark.parametrize("looks", [0, 1, 2, 3, 5])
def test_a_stop_leaves_each_file_old_or_new(tmp_path: Path, looks: int) -> None:
    written(tmp_path / "whole", entry(2, name="c"), entry(2, name="d"))
    dest = tmp_path / "stopped"
    written(dest, entry(1, name="c"))
    old, left = tree(dest), iter(range(looks))
    with pytest.raises(InterruptedRunError):
        written(dest, entry(2, name="c"), entry(2, name="d"), is_stopped=lambda: next(left, None) is None)
    new = tree(tmp_path / "whole")
    assert all(data in (old.get(name), new[name]) for name, data in tree(dest).items())
    assert tree(dest)["catalog.json"] == old["catalog.json"]
    written(dest, entry(2, name="c"), entry(2, name="d"))
    assert tree(dest) == new


def test_the_catalog_states_its_source(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    mirror.add({"type": "Feature", "id": "i", "assets": {}, "links": []}, "fields")
    mirror.catalogs()
    catalog = orjson.loads((tmp_path / "catalog.json").read_bytes())
    assert catalog["id"] == "stacpull-mirror-api.test-stac"
    assert catalog["title"] == "Mirror of fields from https://api.test/stac"
    assert {"rel": "via", "href": "https://api.test/stac", "type": "application/json"} in catalog["links"]
