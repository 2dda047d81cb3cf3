import copy
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pystac.stac_object import STACObjectType
from tests.catalog.mirror import Mirror, core_valid

from stacpull.catalog.item import (
    ANY_TIME,
    EXTENSION,
    FILE_EXTENSION,
    adapted_item,
    encode_item,
    is_own_json,
    public_document,
    restore_original,
)
from stacpull.models import Json, MirroredFile
from stacpull.redact import Secret, Secrets
from stacpull.store.inspection import DirectoryFiles

KEY = "k3y-of-the-user"
SIGNED = f"https://host.test/a.tif?X-Amz-Signature=abc&x=1&key={KEY}"
CUT = "https://host.test/a.tif?x=1"


def item(**members: Any) -> Json:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "i",
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
        **members,
    }


def stored(document: Json, *, here: dict[str, str] | None = None, **options: Any) -> Json:
    return adapted_item(
        document,
        **{
            "collection": "c",
            "mirrored": {key: MirroredFile(path) for key, path in (here or {}).items()},
            "item_path": "c/i/i.json",
            "local_items": lambda _: None,
            "base": None,
            **options,
        },
    )


@pytest.mark.parametrize(
    ("asset", "here", "expected"),
    [
        ({"href": SIGNED}, None, {"href": CUT}),
        (
            {"href": SIGNED, "roles": ["data"]},
            "bigearthnet/p/a.tif",
            {"href": "../../bigearthnet/p/a.tif", "roles": ["data"], "alternate": {"origin": {"href": CUT}}},
        ),
        (
            {"href": "s3://b/a.tif", "alternate": {"https": {"href": SIGNED, "title": "x"}}},
            "c/i/a.tif",
            {
                "href": "./a.tif",
                "alternate": {"https": {"href": CUT, "title": "x"}, "origin": {"href": "s3://b/a.tif"}},
            },
        ),
        (
            {"href": "s3://b/a.tif", "alternate": {"https": {"href": SIGNED}}},
            None,
            {"href": "s3://b/a.tif", "alternate": {"https": {"href": CUT}}},
        ),
        (
            {"href": CUT, "alternate": [{"href": SIGNED}, "x", {"href": ["y"]}, {"href": "s3://b/k"}]},
            None,
            {"href": CUT, "alternate": {}},
        ),
        (
            {"href": CUT, "alternate": {"origin": {"href": "https://first.test/a.tif"}}},
            "c/i/a.tif",
            {"href": "./a.tif", "alternate": {"origin": {"href": CUT}}},
        ),
        (
            {"href": "https://user:pw@host.test/a.tif"},
            "c/i/deep/a:b~23ü.tif",
            {"href": "./deep/a:b~23ü.tif", "alternate": {"origin": {"href": "https://host.test/a.tif"}}},
        ),
        ({}, "c/i/a.tif", {"href": "./a.tif"}),
        ({"href": ["https://a.test", "https://b.test"]}, None, None),
        ({}, None, None),
        ("https://a.test", "c/i/a.tif", None),
    ],
)
def test_mirrored_assets_are_relative_and_others_remote(asset, here, expected):
    document = stored(item(assets={"a": asset}), here={} if here is None else {"a": here})
    assert document["assets"] == ({} if expected is None else {"a": expected})
    core_valid({**document, "stac_version": "1.1.0"}, STACObjectType.ITEM)


@pytest.mark.parametrize(
    "href", [CUT, SIGNED, f"https://host.test/a.tif?key={KEY}", "a.tif?sv=1&se=2&sig=abc"]
)
def test_what_is_stored_again_from_the_mirror_is_the_same(href: str) -> None:
    source = item(assets={"a": {"href": href}})
    for sent in (source, orjson.loads(public_document(source, Secrets()))):
        document = stored(sent, base="https://host.test/i.json")
        assert stored(restore_original(document)) == document  # without the source's document in the ledger


def test_an_asset_of_a_file_states_its_path_if_it_is_no_longer_in_the_mirror() -> None:
    document = stored(item(assets={"a": {"href": "a.tif"}}), here={"a": "c/i/a.tif"}, base="file:///s/i.json")
    assert stored(restore_original(document))["assets"]["a"]["href"] == "file:///s/a.tif"


def test_links_lead_into_the_mirror_or_are_remote_without_credentials() -> None:
    places = {"https://api.test/items/s": "s/s1/s1.json", "https://api.test/items/ii?key=x": "c/ii/ii.json"}
    links = [
        {"rel": "self", "href": SIGNED},
        {"rel": "root", "href": SIGNED},
        {"rel": "parent", "href": SIGNED},
        {"rel": "collection", "href": SIGNED},
        {"rel": "source", "href": "https://api.test/items/s", "label:assets": ["B01"]},
        {"rel": "derived_from", "href": "/items/ii?key=x"},
        {"rel": "source", "href": SIGNED, "title": "elsewhere"},
        {"rel": "license", "href": SIGNED},
        {"rel": "related", "href": "https://api.test/items/s"},
        {"rel": "via", "href": "https://api.test/items/s"},
    ]
    document = stored(item(links=links), local_items=places.get, base="https://api.test/items/i")
    assert document["links"] == [
        {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
        {"rel": "parent", "href": "../collection.json", "type": "application/json"},
        {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        {"rel": "source", "href": "../../s/s1/s1.json", "label:assets": ["B01"]},
        {"rel": "derived_from", "href": "../ii/ii.json"},
        {"rel": "source", "href": CUT, "title": "elsewhere"},
        {"rel": "license", "href": CUT},
        {"rel": "related", "href": "../../s/s1/s1.json"},
        {"rel": "via", "href": "https://api.test/items/s"},
        {"rel": "via", "href": "https://api.test/items/i", "type": "application/json"},
        {"rel": "canonical", "href": CUT, "type": "application/json"},
    ]


@pytest.mark.parametrize(
    ("links", "base", "expected"),
    [
        ([], "https://a.test/i?key=x", {"via": ["https://a.test/i"], "canonical": ["https://a.test/i"]}),
        (
            [{"rel": "self", "href": "https://b.test/i"}],
            "https://a.test/i",
            {"via": ["https://a.test/i"], "canonical": ["https://b.test/i"]},
        ),
        # of a mirror that is read from its directory: its own links stay
        ([{"rel": "via", "href": "https://a.test/i"}], "/data/mirror/i.json", {"via": ["https://a.test/i"]}),
        (
            [{"rel": "canonical", "href": "https://c.test/i"}, {"rel": "via", "href": "https://a.test/i"}],
            "https://m.test/i.json",
            {"canonical": ["https://c.test/i"], "via": ["https://a.test/i", "https://m.test/i.json"]},
        ),
    ],
)
def test_links_to_the_origin_of_an_item(links: Any, base: str | None, expected: Json) -> None:
    document = stored(item(links=links), base=base)
    found: dict[str, list[str]] = {}
    for link in document["links"]:
        if link["rel"] in {"via", "canonical"}:
            found.setdefault(link["rel"], []).append(link["href"])
    assert found == expected
    again = stored(restore_original(document))
    assert again["links"] == document["links"]


DIGEST = bytes(range(32))


def test_a_mirrored_asset_has_the_size_and_checksum_of_its_file() -> None:
    stated = {"file:size": 9, "file:checksum": "d50110" + 16 * "00", "file:local_path": "x/a.tif"}
    source = item(assets={"a": {"href": "https://h.test/a.tif", **stated}, "b": {"href": "b.tif", **stated}})
    here = {"a": MirroredFile("c/i/a.tif", 12, DIGEST)}
    document = stored(source, mirrored=here, base="https://h.test/i.json")
    assert document["assets"]["a"] == {
        "href": "./a.tif",
        "file:size": 12,
        "file:checksum": "1220" + DIGEST.hex(),
        "file:local_path": "x/a.tif",
        "alternate": {
            "origin": {"href": "https://h.test/a.tif", "file:size": 9, "file:checksum": "d50110" + 16 * "00"}
        },
    }
    assert document["assets"]["b"] == {"href": "https://h.test/b.tif", **stated}
    assert document["stac_extensions"] == [EXTENSION, FILE_EXTENSION]
    sent = restore_original(document)
    assert sent["assets"]["a"].items() >= source["assets"]["a"].items()
    assert sent["assets"]["b"] == {"href": "https://h.test/b.tif", **stated}


@pytest.mark.parametrize(
    "links",
    [
        None,
        "x",
        5,
        {"rel": "self"},
        [None, 5, [], {}],
        [{"rel": "x"}, {"href": "x"}, {"rel": "", "href": "x"}, {"rel": "x", "href": ""}],
    ],
)
def test_invalid_links_are_left_out_and_an_invalid_version_is_replaced(links: Any) -> None:
    document = stored(item(links=links, stac_version=links))
    assert isinstance(document["stac_version"], str)
    assert {link["rel"] for link in document["links"]} <= {"root", "parent", "collection", "via", "canonical"}
    core_valid({**document, "stac_version": "1.1.0"}, STACObjectType.ITEM)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {"geometry": {"type": "Point", "coordinates": [1.0, 2.0]}, "bbox": [1.0, 2.0, 1.0, 2.0]}),
        ({"bbox": None}, {"bbox": [1.0, 2.0, 1.0, 2.0]}),
        (
            {"bbox": [], "geometry": {"type": "Polygon", "coordinates": [[[0, 1, 9], [5, 7, 9], [0, 1, 9]]]}},
            {"bbox": [0, 1, 5, 7]},
        ),
        (
            {
                "bbox": "x",
                "geometry": {
                    "type": "GeometryCollection",
                    "geometries": [
                        {"type": "Point", "coordinates": [3, 4]},
                        {"type": "LineString", "coordinates": [[0, 0], [9, 1]]},
                    ],
                },
            },
            {"bbox": [0, 0, 9, 4]},
        ),
        ({"geometry": None}, {"geometry": None}),
        ({"geometry": {"type": "Polygon", "coordinates": []}, "bbox": None}, {"geometry": None}),
    ],
)
def test_geometry_and_bbox_are_valid_together(members: Json, expected: Json) -> None:
    document = stored(item(**members))
    assert {key: document.get(key) for key in expected} == expected
    assert ("bbox" in document) == (document["geometry"] is not None)


INTERVAL = {"start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2021-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"datetime": "2016-10-08 19:25:32Z", "x": 1}, {"datetime": "2016-10-08 19:25:32Z", "x": 1}),
        ({"datetime": None, **INTERVAL}, {"datetime": None, **INTERVAL}),
        (INTERVAL, {"datetime": None, **INTERVAL}),
        ({"x": 1}, {"x": 1, **ANY_TIME}),
        ({"datetime": None, "start_datetime": "2020-01-01T00:00:00Z"}, ANY_TIME),
        (None, ANY_TIME),
    ],
)
def test_an_item_has_a_time_that_pystac_reads(properties: Any, expected: Json, tmp_path: Path) -> None:
    assert stored(item(properties=properties))["properties"] == expected
    mirror = Mirror(tmp_path)
    mirror.add(item(properties=properties), "c")
    mirror.catalogs()
    (opened,) = pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True)
    assert opened.id == "i"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.sampled_from([SIGNED, CUT, "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["href", "rel", "alternate", "a", "coordinates", "geometries"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
MEMBERS = st.fixed_dictionaries(
    {"id": st.just("i")},
    optional=dict.fromkeys(
        ("type", "links", "assets", "properties", "geometry", "bbox", "stac_extensions", "collection"), JSON
    ),
)


@given(source=MEMBERS, base=st.sampled_from([None, "https://h.test/i.json", "s3://b/i.json", "//[", ""]))
def test_no_document_raises_or_is_changed_and_storing_is_idempotent(source: Json, base: str | None) -> None:
    before = copy.deepcopy(source)
    document = stored(source, here={"a": "c/i/a.tif"}, base=base)
    assert repr(source) == repr(before)
    assert repr(stored(document, here={"a": "c/i/a.tif"})) == repr(document)
    hrefs = [one.get("href") for one in (*document["links"], *document["assets"].values())]
    assert KEY not in json.dumps(hrefs)
    assert isinstance(orjson.loads(encode_item(document, Secrets())), dict)


@pytest.mark.parametrize("href", ["//u:planted@h.test/x", "https://h.test/x#access_token=planted"])
def test_no_url_in_a_document_keeps_credentials(href: str) -> None:
    source = item(links=[{"rel": "via", "href": href}], assets={"a": {"href": "a", "alternate": {"o": href}}})
    assert b"planted" not in public_document({**source, "properties": {"deep": [href]}}, Secrets())
    assert "planted" not in repr(stored({**source, "assets": {"a": {"href": href}}}))


def test_secrets_are_removed_and_deep_documents_keep_their_flat_members() -> None:
    secrets = Secrets([Secret(KEY), Secret('plan"ted\\kéy')])
    source = item(properties={"datetime": "2020-01-01T00:00:00Z", "echo": f'{KEY} plan"ted\\kéy'})
    data = orjson.loads(encode_item(stored(source), secrets))
    assert data["properties"]["echo"] == "*** ***"
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    sent = public_document(item(id="i", assets={"a": {"href": SIGNED, "odd": deep}}), Secrets())
    assert orjson.loads(sent)["id"] == "i"


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
def test_a_document_belongs_to_the_mirror_if_its_root_does(tmp_path, catalog, root, is_ours):
    name = "stacpull-mirror-api.example" if catalog == "ours" else "another"
    (tmp_path / "catalog.json").write_bytes(orjson.dumps({"type": "Catalog", "id": name}))
    (tmp_path / "c").mkdir()
    if catalog == "none":
        (tmp_path / "catalog.json").unlink()
    (tmp_path / "c/i.json").write_bytes(orjson.dumps({"links": [{"rel": "root", "href": root}]}))
    with closing(DirectoryFiles(tmp_path)) as files:
        assert is_own_json(files, "c/i.json") == is_ours


def test_a_document_with_text_of_the_user_does_not_belong_to_the_mirror(tmp_path: Path) -> None:
    document = {"links": [{"rel": "root", "href": "./catalog.json"}]}
    (tmp_path / "formatted.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    (tmp_path / "noted.json").write_bytes(orjson.dumps(document) + b"\nnotes\n")
    with closing(DirectoryFiles(tmp_path)) as files:
        assert is_own_json(files, "formatted.json")
        assert not is_own_json(files, "noted.json")
