import copy
import re
from typing import Any

import orjson
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pystac.stac_object import STACObjectType
from tests.catalog.mirror import core_valid

from stacpull.catalog import catalog_tree as collection
from stacpull.catalog.catalog_tree import CollectionEntry
from stacpull.catalog.item import encode_item
from stacpull.models import Json
from stacpull.redact import Secrets

WORLD = {"spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]}, "temporal": {"interval": [[None, None]]}}


def made_of(document: Json | None, base: str | None = None) -> Json:
    return CollectionEntry("c", "c", document, lambda: iter(()), base, {}).stored_document()


def stored(document: Json | None, base: str | None = None) -> Json:
    made = made_of(document, base)
    core_valid(made, STACObjectType.COLLECTION)
    return made


@pytest.mark.parametrize(
    ("extent", "boxes"),
    [
        ({"spatial": {"bbox": [[1, 2, 3, 4]]}}, [[1, 2, 3, 4]]),
        ({"spatial": {"bbox": [[1, 2, 0, 3, 4, 9]]}}, [[1, 2, 0, 3, 4, 9]]),
        (
            {"spatial": {"bbox": [[170, 2, -170, 4], [0, 5, 0, 9, 6, 8]]}},
            [*WORLD["spatial"]["bbox"], [170, 2, -170, 4], [0, 5, 0, 9, 6, 8]],
        ),
        ({"spatial": {"bbox": [["1", 2, 3, 4], None, [1, 2]]}}, WORLD["spatial"]["bbox"]),
        ({"spatial": [1, 2, 3, 4]}, WORLD["spatial"]["bbox"]),
        ("everywhere", WORLD["spatial"]["bbox"]),
        ({}, WORLD["spatial"]["bbox"]),
    ],
)
def test_the_default_of_the_spatial_extent_is_the_world(extent: Any, boxes: list[list[float]]) -> None:
    made = stored({"extent": extent})
    assert made["extent"]["spatial"]["bbox"] == boxes


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([["2017-06-13T10:10:31Z", None]], [["2017-06-13T10:10:31Z", None]]),
        ([["2021-05-28T11:38:43+0200", "2022-01-01"]], [["2021-05-28T09:38:43Z", "2022-01-01T00:00:00Z"]]),
        ([["0001-01-01T00:00:00+14:00", None]], [["0001-01-01T00:00:00Z", None]]),
        (["2017-06-13 10:10:31", "2018-05-29T11:54:01Z"], [[None, None]]),
        ([["soon", 5]], [[None, None]]),
        (None, [[None, None]]),
    ],
)
def test_the_default_of_the_temporal_extent_is_all_time(interval: Any, expected: Any) -> None:
    made = stored({"extent": {"temporal": {"interval": interval}}})
    assert made["extent"]["temporal"]["interval"] == expected


@pytest.mark.parametrize(
    ("licence", "expected", "wording"),
    [
        ("CC-BY-4.0", "CC-BY-4.0", None),
        ("cdla-permissive-1.0", "cdla-permissive-1.0", None),
        ("proprietary", "other", None),
        ("Source Collection License", "other", "Source Collection License"),
        (None, "other", None),
        (["MIT"], "other", None),
    ],
)
def test_the_licence_is_made_valid(licence: Any, expected: str, wording: str | None) -> None:
    made = stored({"license": licence})
    assert (made["license"], made.get("source_license")) == (expected, wording)


def test_providers_without_a_name_are_left_out() -> None:
    named = {"name": "A", "roles": ["producer"], "url": "https://a.test", "email": "a@a.test"}
    assert stored({"providers": [named, {"url": "https://c.test"}, "D"]})["providers"] == [named]


def test_an_old_version_is_migrated() -> None:
    made = stored(
        {
            "stac_version": "1.0.0-beta.2",
            "stac_extensions": ["scientific", "https://x.test/own/v1.0.0/schema.json"],
            "summaries": {"gsd": {"min": 10, "max": 60}, "nothing": [], "none": None},
            "sci:citation": "Sumbul et al., 2019",
            "keywords": ["a"],
            "own:field": {"kept": True},
        }
    )
    assert made["stac_version"] == "1.1.0"
    assert made["summaries"] == {"gsd": {"minimum": 10, "maximum": 60}}
    assert made["sci:citation"] == "Sumbul et al., 2019"
    assert made["stac_extensions"] == [
        "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
        "https://x.test/own/v1.0.0/schema.json",
    ]
    assert (made["keywords"], made["own:field"]) == (["a"], {"kept": True})


@pytest.mark.parametrize("levels", [90, 240])
@pytest.mark.parametrize("member", ["own:field", "summaries", "extent", "assets", "properties"])
def test_a_deeply_nested_document_does_not_stop_the_run(member: str, levels: int) -> None:
    deep: Json = {}
    for _ in range(levels):
        deep = {"a": deep}
    made = stored({"stac_version": "1.0.0-beta.2", "license": "MIT", member: deep})
    assert orjson.loads(encode_item(made, Secrets()))["license"] == "MIT"


def test_external_links_are_kept_without_credentials() -> None:
    gone = ["self", "root", "parent", "child", "item", "items", "next", "queryables"]
    links: list[Any] = [{"rel": rel, "href": "https://h.test"} for rel in gone]
    links += [{"rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables", "href": "https://h.test/q"}]
    links += [{"rel": "license", "href": "/l.txt?key=k&v=1", "title": "L"}, None, {"rel": "x"}]
    made = stored({"links": links}, base="https://h.test/collections/c")
    assert made["links"] == [
        {"rel": "license", "href": "https://h.test/l.txt?v=1", "title": "L"},
        {"rel": "via", "href": "https://h.test/collections/c", "type": "application/json"},
        {"rel": "canonical", "href": "https://h.test", "type": "application/json"},
    ]


RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)
CORE = "stac_version type id title description keywords license providers extent summaries assets links"


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*CORE.split(), "stac_extensions", "x:y"], RUBBISH)))
def test_pystac_reads_the_collection_of_any_input(source: Json) -> None:
    before = copy.deepcopy(source)
    assert pystac.Collection.from_dict(made_of(source, "https://h.test/c")).id == "c"
    assert repr(source) == repr(before)


PLAIN: list[Json] = [
    {},
    {"title": "", "item_assets": {}, "z": None},
    {"providers": [{"name": "n", "roles": []}], "keywords": [], "summaries": {}},
    {"assets": {"a": {"href": ""}, "b": {"href": "rel/x.tif", "alternate": {"a": {"href": "s3://b/k"}}}}},
    {
        "deprecated": True,
        "title": "T",
        "license": "MIT",
        "keywords": ["a", "b"],
        "extent": {
            "spatial": {"bbox": [[1, 2, 3, 4]]},
            "temporal": {"interval": [["2017-01-01T00:00:00Z", None], ["2017-01-01T00:00:00+02:00", None]]},
        },
        "providers": [{"name": "p", "roles": ["host"], "url": "https://x.example", "x:y": 1}],
        "summaries": {"gsd": [10, 20], "cloud": {"minimum": 1, "maximum": 2}, "deep": {"type": "object"}},
        "item_assets": {"a": {"type": "image/tiff", "title": "A"}},
        "assets": {"t": {"href": "https://x.example/t.png", "roles": ["thumbnail"], "extra": {"k": [1]}}},
        "bands": [{"name": "b"}],
        "sci:doi": "1",
    },
]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
@pytest.mark.parametrize("source", PLAIN)
def test_a_current_document_without_extensions_equals_pystacs(source, version, monkeypatch):
    made = stored({**source, "stac_version": version})
    monkeypatch.setattr(collection, "_CURRENT", re.compile("never"))
    of_pystac = stored({**source, "stac_version": version})
    assert (made, list(made)) == (of_pystac, list(of_pystac))
