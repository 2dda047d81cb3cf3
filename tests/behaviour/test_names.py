"""A name in DEST is the same text as a path and as a relative URL, whatever ids and keys a source has."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import urlopen

import pystac
import pytest
from tests.items import collection, feature
from tests.planning.hostile import NAMES
from tests.serving import serving_files

from stacpull import Options, Selection, sync

VALID = [name for name in NAMES if name and not any("\ud800" <= char <= "\udfff" for char in name)]
MORE = [
    "a b", "a\\b", "a:b", "a;b", "a/b?c#d%41", "100%25", "~", "~2F", "-rf", "a+b", "[x]",
    "a\u200fb", "a\u00a0b", "größe", "文件",
]  # fmt: skip


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of more than 500 items, each with a hostile id and key, some in a collection of that name."""
    top = tmp_path_factory.mktemp("names")
    with (top / "items.ndjson").open("w") as file:
        for number, name in enumerate(sorted({*VALID, *MORE})):
            (top / f"{number}.bin").write_text(name, newline="")
            item = feature(name, {name: f"./{number}.bin"}, collection=name if name in MORE else "c")
            file.write(json.dumps(item) + "\n")
    report = sync.mirror(str(top / "items.ndjson"), str(top / "m"))
    assert (report.exit_code, report.assets_done) == (0, len({*VALID, *MORE}))
    return top / "m"


def test_every_name_is_safe_as_a_path_and_as_a_url(mirror: Path) -> None:
    assert len(VALID) >= 500
    for path in mirror.rglob("*"):
        if ".stacpull" in path.parts:
            continue
        name = path.name
        assert quote(name, safe="!$&'()*,;=:@~") == quote(name.encode(), safe="!$&'(),=@~"), name
        assert unquote(name) == name
        assert name.lstrip("-.") == name
        assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zs", "Zl", "Zp"} for char in name), name
        assert not set(name) & set(' "#%:;<>?[\\]^`{|}*'), name


def documents(url: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the documents of a catalog that is published over HTTP, with their URLs."""
    left = [url]
    while left:
        here = left.pop()
        with urlopen(as_uri(here)) as reply:  # noqa: S310 - loopback
            document = json.load(reply)
        yield here, document
        left += [
            urljoin(here, link["href"]) for link in document["links"] if link["rel"] in {"child", "item"}
        ]


def as_uri(url: str) -> str:
    """Write letters outside ASCII as every client does (RFC 3987, 3.1). Nothing else is encoded."""
    return "".join(char if char.isascii() else quote(char) for char in url)


def test_a_published_mirror_has_every_file_under_its_href(mirror: Path) -> None:
    found = 0
    with serving_files(mirror) as url:
        for here, document in documents(f"{url}/catalog.json"):
            for asset in document.get("assets", {}).values() if document["type"] == "Feature" else ():  # type: ignore[attr-defined] - JSON
                href = urljoin(here, asset["href"])
                assert (mirror / urlsplit(href).path.lstrip("/")).is_file(), href
                with urlopen(as_uri(href)) as reply:  # noqa: S310 - loopback
                    assert reply.read().decode() == document["id"]
                found += 1
    assert found == len({*VALID, *MORE})


def test_pystac_resolves_every_href_to_the_file(mirror: Path) -> None:
    catalog = pystac.Catalog.from_file(str(mirror / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert {item.id for item in items} == {*VALID, *MORE}
    assert {item.collection_id for item in items} == {*MORE, "c"}
    paths = {item.id: str(asset.get_absolute_href()) for item in items for asset in item.assets.values()}
    assert len(paths) == len({*VALID, *MORE})
    assert all(Path(path).read_bytes().decode() == name for name, path in paths.items())


def test_a_mirror_of_the_mirror_has_the_same_files(mirror: Path, tmp_path: Path) -> None:
    """`/` is `~2F` on the disk, and `%2F` is `~252F`."""
    report = sync.mirror(mirror, tmp_path, selection=Selection(all_collections=True))
    assert (report.assets_done, report.assets_failed) == (len({*VALID, *MORE}), 0)
    test_pystac_resolves_every_href_to_the_file(tmp_path)


@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_collections_whose_ids_differ_only_in_case_share_no_path(tmp_path: Path, metadata: str) -> None:
    names = ["S2", "s2", "straße", "STRASSE"]
    (tmp_path / "data.bin").write_bytes(b"data")
    source, mirror = tmp_path / "items.ndjson", tmp_path / "m"
    for number, name in enumerate(names):
        own = {"own": {"href": "./data.bin"}}
        (tmp_path / f"{number}.json").write_text(json.dumps(collection(name, assets=own)))
    for item_id in ("a", "A", "b"):
        with source.open("a") as file:
            for name in reversed(names) if item_id == "b" else names:
                links = [{"rel": "collection", "href": f"./{names.index(name)}.json"}]
                item = feature(item_id, {"k": "./data.bin"}, collection=name, links=links)
                file.write(json.dumps(item) + "\n")
        selection, options = Selection(collection_assets=True), Options(metadata=metadata)
        assert sync.mirror(source, mirror, selection=selection, options=options).exit_code == 0
    assert (sync.verify(mirror).exit_code, sync.verify(mirror).unknown) == (0, 0)
    paths = [path.relative_to(mirror) for path in mirror.rglob("*") if ".stacpull" not in path.parts]
    folded = {unicodedata.normalize("NFD", str(path)).casefold() for path in paths}
    assert len(folded) == len(paths)
    children = list(pystac.Catalog.from_file(str(mirror / "catalog.json")).get_children())
    assert [child.id for child in children] == names
    assert [len(path.parts) for path in paths if path.name == "collection.json"] == [2] * len(names)
    assert {child.assets["own"].href for child in children} == {"./own.bin"}
    for child in children if metadata == "item" else ():
        items = list(child.get_items())
        assert [item.id for item in items] == ["a", "A", "b"]
        assert {item.get_collection() for item in items} == {child}
        assert all(Path(str(item.assets["k"].get_absolute_href())).is_file() for item in items)


@pytest.mark.parametrize(
    ("layout", "keys", "count"),
    [
        ("{collection}/{item}", {}, 3),
        ("{collection}/{item}/{item}.json/{key}", {}, 3),
        ("{collection}", {}, 1),
        ("{collection}/{key}", {"i0": "i1", "i1": "i0", "i2": "i2", "i3": "collection.json"}, 4),
        ("{collection}/{key}", {"i0": "I119", "i119": "i0"}, 120),  # of two batches
    ],
)
def test_no_asset_has_the_path_of_a_document_of_the_mirror_or_of_its_directory(tmp_path, layout, keys, count):
    with (tmp_path / "items.ndjson").open("w") as file:
        for name in (f"i{number}" for number in range(count)):
            data = tmp_path / name / keys.get(name, f"key-of-{name}")
            data.parent.mkdir()
            data.write_text(f"data of {name}")
            file.write(json.dumps(feature(name, {data.name: f"{name}/{data.name}"})) + "\n")
    for skipped in (0, count):
        report = sync.mirror(tmp_path / "items.ndjson", tmp_path / "m", options=Options(layout=layout))
        assert (report.exit_code, report.items_done, report.assets_skipped) == (0, count, skipped)
    assert (sync.verify(tmp_path / "m").exit_code, sync.verify(tmp_path / "m").unknown) == (0, 0)
    items = pystac.Catalog.from_file(str(tmp_path / "m/catalog.json")).get_items(recursive=True)
    found = {item.id: str(item.assets.popitem()[1].get_absolute_href()) for item in items}
    assert [Path(path).read_text() for path in found.values()] == [f"data of {name}" for name in found]
    assert len(found) == count
