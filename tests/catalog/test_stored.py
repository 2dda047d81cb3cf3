"""Stored items are read back as written, and hostile documents refer to nothing outside the mirror."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.catalog.item import encode_item, item_document
from stacpull.catalog.references import path_named
from stacpull.catalog.stored import as_sent, stored_item
from stacpull.models import Checksum, ItemId, MirroredFile
from stacpull.planning.names import safe_segment
from stacpull.redact import Secrets

SEGMENTS = st.text(min_size=1, max_size=20).map(safe_segment)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(path=PATHS, directory=st.lists(SEGMENTS, max_size=3).map("/".join))
def test_every_path_that_is_written_is_read_back(path: str, directory: str) -> None:
    document = {"id": "i", "assets": {"a": {"href": "https://h.example/a"}}}
    stored = item_document(
        document,
        collection="c",
        mirrored={"a": MirroredFile(path)},
        item_path=f"{directory}/i.json" if directory else "i.json",
        collection_path="c/collection.json",
        local_items=lambda _: None,
    )
    found = stored_item(
        orjson.loads(encode_item(stored, Secrets(()))), f"{directory}/i.json" if directory else "i.json"
    )
    assert found is not None
    assert [(asset.key, asset.path, asset.origin) for asset in found.assets] == [
        ("a", path, "https://h.example/a")
    ]


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("./a.tif", "c/i/a.tif"),
        ("../../x/a%23b.tif", "x/a%23b.tif"),
        ("../../x/a%3Bb.tif", "x/a%3Bb.tif"),
        ("../../x/a%2541", "x/a%2541"),
        ("../../../a.tif", None),
        ("../../../../etc/passwd", None),
        ("../../.stacpull/ledger.sqlite", None),
        ("./../../.STACPULL/ledger.sqlite", None),
        ("../../.\u017ftacpull/ledger.sqlite", None),
        ("../..", None),
        ("/etc/passwd", None),
        ("https://h.example/a.tif", None),
        ("a.tif", None),
        ("./a\0b", None),
        ("", None),
        (None, None),
        (7, None),
        ("./../i/./a.tif", "c/i/a.tif"),
    ],
)
def test_paths_of_hrefs(href: object, path: str | None) -> None:
    assert path_named(href, "c/i") == path


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"type": "FeatureCollection", "id": "i", "collection": "c"},
        {"type": "Feature", "id": "", "collection": "c"},
        {"type": "Feature", "id": 7, "collection": "c"},
        {"type": "Feature", "id": "i"},
    ],
)
def test_documents_that_are_not_items(document: object) -> None:
    assert stored_item(document, "c/i/i.json") is None


@pytest.mark.parametrize(
    "assets", [None, [], {"a": None}, {"a": {"href": None}}, {"a": {"href": "https://h/a"}}]
)
@pytest.mark.parametrize(
    "links", [None, {}, [None], [{"rel": "source"}], [{"rel": "source", "href": "https://h/"}]]
)
def test_assets_and_links_without_a_local_file(assets: Any, links: Any) -> None:
    document = {"type": "Feature", "id": "i", "collection": "c", "assets": assets, "links": links}
    found = stored_item(document, "c/i/i.json")
    assert found is not None
    assert (found.assets, found.sources) == ((), ())


def test_all_parts_of_a_stored_item() -> None:
    digest = bytes(range(32))
    asset = {
        "href": "./a.tif",
        "type": "image/tiff",
        "file:size": 12,
        "file:checksum": "1220" + digest.hex(),
        "alternate": {"origin": {"href": "s3://b/a.tif", "file:size": 13}},
    }
    document = {
        "type": "Feature",
        "id": "i",
        "collection": "c",
        "properties": {"updated": "2020"},
        "assets": {"a": asset},
        "links": [
            {"rel": "source", "href": "../../s/x/x.json"},
            {"rel": "root", "href": "../../catalog.json"},
        ],
    }
    found = stored_item(document, "c/i/i.json")
    assert found is not None
    assert (found.id, found.updated, found.sources) == (ItemId("c", "i"), "2020", ("s/x/x.json",))
    (one,) = found.assets
    assert one == ("a", "c/i/a.tif", "s3://b/a.tif", 12, Checksum("sha256", digest), "image/tiff", 13, None)
    sent = as_sent(document)["assets"]["a"]
    assert (sent["href"], sent["file:size"], "file:checksum" in sent) == ("s3://b/a.tif", 13, False)


def test_an_asset_that_is_not_in_the_mirror_keeps_its_href() -> None:
    """Its source is a mirror, whose origin may be gone."""
    asset = {
        "href": "https://mirror.example/a.tif",
        "alternate": {"origin": {"href": "https://gone.example/a"}},
    }
    assert as_sent({"assets": {"a": asset}})["assets"] == {"a": asset}
