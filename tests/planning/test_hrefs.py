import pytest

from stacpull.models import Failure, FailureKind, ItemId
from stacpull.planning.hrefs import (
    api_href,
    asset_href,
    asset_hrefs,
    asset_kind,
    item_id_in,
    linked_hrefs,
    self_href,
    suffix_of,
)

BASE = "https://h/stac/c/items/i.json?key=secret"


@pytest.mark.parametrize(
    ("href", "base", "absolute"),
    [
        ("https://o/a.tif", BASE, "https://o/a.tif"),
        ("s3://EODATA/a/b.jp2", None, "s3://EODATA/a/b.jp2"),
        ("s3://tenant:bucket/a", None, "s3://tenant:bucket/a"),
        ("HTTPS://O/a.tif", None, "https://O/a.tif"),
        ("./a.tif", BASE, "https://h/stac/c/items/a.tif"),
        ("/a.tif", BASE, "https://h/a.tif"),
        ("//o/a.tif", BASE, "https://o/a.tif"),
        ("a.tif", "s3://b/c/i.json", "s3://b/c/a.tif"),
        ("../../../a.tif", "s3://b/c/i.json", "s3://b/a.tif"),
        ("./a.tif", "file:///data/c/i.json", "file:///data/c/a.tif"),
        ("file:///data/a.tif", "file:///data/c/i.json", "file:///data/a.tif"),
        ("file:/data/a.tif", "file:///data/c/i.json", "file:///data/a.tif"),
        ("FILE://localhost/data/a.tif", "file:///data/c/i.json", "file:///data/a.tif"),
        ("\t ./a.tif \x00", BASE, "https://h/stac/c/items/a.tif"),
        ("https://o/a\n.tif", None, "https://o/a.tif"),
    ],
)
def test_asset_hrefs_are_made_absolute(href, base, absolute):
    assert asset_href({"href": href}, base) == absolute


@pytest.mark.parametrize(
    ("asset", "base", "why"),
    [
        ({}, BASE, "has no href"),
        *(({"href": href}, BASE, "has no href") for href in (" \t", "//", "#", "?", "//?#x")),
        ({"href": ["https://o/a.tif"]}, BASE, "has no href"),
        ("https://o/a.tif", BASE, "has no href"),
        ({"href": "file:///data/MTDA/x.tif"}, BASE, "begins with file:"),
        ({"href": "ftp://h/x.tif"}, BASE, "begins with ftp:"),
        ({"href": "C:\\x.tif"}, BASE, "begins with c:"),
        *(({"href": f"http://{rest}"}, BASE, "no valid host") for rest in ("", "/x", "[::1/x", "h:99999/x")),
        ({"href": "a.tif"}, None, "path"),
        ({"href": "//h/x.tif"}, "file:///data/c/i.json", "begins with file:"),
        ({"href": "//[/a.tif"}, BASE, "is a path"),
    ],
)
def test_unusable_hrefs_are_reported(asset, base, why):
    found = asset_href(asset, base)
    assert isinstance(found, Failure)
    assert found.kind is (FailureKind.ITEM if why == "has no href" else FailureKind.SCHEME)
    assert why in found.message
    assert not found.retryable


@pytest.mark.parametrize(
    ("page", "href"),
    [
        (
            "https://h/mlhub/v1/collections/c/items?limit=30&key=k",
            "https://h/mlhub/v1/collections/c/items/a%2Fb",
        ),
        ("https://h/collections/c/items/", "https://h/collections/c/items/a%2Fb"),
        ("https://h/v1/search", "https://h/v1/collections/c%3A1/items/a%2Fb"),
        ("https://h/catalog.json", None),
        ("https://[/items", None),
        (None, None),
    ],
)
def test_the_url_of_an_item_at_an_api_is_derived_from_its_page(page: str | None, href: str | None) -> None:
    assert api_href(ItemId("c:1", "a/b"), page) == href


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://h/v1/collections/c/items/i/?f=json", ItemId("c", "i")),
        ("https://h/collections/a%2Fb/items/x%20y", ItemId("a/b", "x y")),
        ("https://h/v1/collections/c", None),
        ("https://h/some/where/item.json", None),
    ],
)
def test_an_api_url_names_its_item(href: str, expected: ItemId | None) -> None:
    assert item_id_in(href) == expected


@pytest.mark.parametrize(
    ("links", "href"),
    [
        ([{"rel": "self", "href": "https://h/i"}], "https://h/i"),
        ([{"rel": "self", "href": "./i.json"}, {"rel": "self", "href": "s3://b/i"}], "s3://b/i"),
        ([{"rel": "self", "href": "HTTPS://H/i"}], "https://H/i"),
        ([{"rel": "self", "href": "./i.json"}], None),
        ([{"rel": "self"}, {"rel": "self", "href": None}, None, 5], None),
        ({"rel": "self", "href": "https://h/i"}, None),
        (None, None),
    ],
)
def test_self_links_count_if_absolute(links, href):
    assert self_href({"links": links}) == href


@pytest.mark.parametrize(
    ("links", "base", "sources"),
    [
        (
            [("source", "https://h/a"), ("self", "https://h/x"), ("source", "https://h/b")],
            None,
            ("https://h/a", "https://h/b"),
        ),
        ([("source", "\n  https://h/a  "), ("source", "https://h/a")], None, ("https://h/a",)),
        ([("source", "a.json")], "https://h/c/i.json", ("https://h/c/a.json",)),
        ([("source", "a.json"), ("self", "https://o/c/i.json")], "https://h/p", ("https://o/c/a.json",)),
        ([("source", "a.json")], None, ()),
        ([("source", None), ("source", ["x"]), ("source", ""), (None, "a")], "https://h/c/i.json", ()),
        ([], None, ()),
    ],
)
def test_source_links_are_distinct_and_in_order(links, base, sources):
    item = {"links": [{"rel": rel, "href": href} for rel, href in links]}
    assert linked_hrefs(item, base, ["source", "none"]) == sources


OWN, S3, OTHER = "https://h.test/a.tif", "s3://b/a.tif", "https://other.test/a.tif"
ALTERNATES = [
    ({"href": OWN}, (), (OWN,)),
    ({"href": OWN, "alternate": {"s3": {"href": S3}}}, (), (OWN,)),
    ({"href": OWN, "alternate": {"s3": {"href": S3}}}, ("s3",), (S3, OWN)),
    ({"href": OWN, "alternate": {"s3": {"href": S3}}}, ("https", "s3"), (OWN, S3)),
    ({"href": S3, "alternate": {"x": {"href": OTHER}, "y": {"href": OWN}}}, ("https",), (OTHER, OWN, S3)),
    ({"href": OWN, "alternate": {"local": {"href": "file:///data/a.tif"}}}, ("s3",), (OWN,)),
    ({"href": OWN, "alternate": {"r": {"href": "../b.tif"}}}, ("https",), (OWN, "https://api.test/b.tif")),
    ({"href": ["x"], "alternate": {"s3": {"href": S3}}}, ("https",), (S3,)),
    ({"alternate": [{"href": S3}, None, "odd"]}, ("s3",), (S3,)),
    ({"href": OWN, "alternate": {"href": S3, "storage:refs": ["minio"]}}, ("s3",), (S3, OWN)),
    ({"href": OWN, "alternate": "odd"}, ("s3",), (OWN,)),
]


@pytest.mark.parametrize(("asset", "prefer", "expected"), ALTERNATES)
def test_hrefs_in_order_of_preference(asset, prefer, expected):
    assert asset_hrefs(asset, "https://api.test/c/item.json", prefer) == expected


COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@pytest.mark.parametrize(
    ("href", "media_type", "suffix"),
    [
        ("https://h/a/B01.TIF?key=x.y", "image/png", ".TIF"),
        ("https://h/a/b.tar.gz", None, ".tar.gz"),
        ("https://h/a/b%2Etif", None, ".tif"),
        ("s3://bucket/a.b/c#1?.jp2", None, ".jp2"),
        ("https://h/x.geojson?dl=1", COG, ".geojson"),
        ("https://h/mlhub/v1/download/gAAAAABf9jVF-_e05e=", COG, ".tif"),
        ("https://h/odata/Nodes(B02.tif)/$value", "image/jp2", ".jp2"),
        ("https://h/product/v1.5", None, ""),
        ("https://h/product/v1.7z", None, ".7z"),
        ("https://h/a/.tif", None, ""),
        ("https://h/a/b.", "image/png", ".png"),
        ("https://h/a/b.x-y", None, ""),
        ("https://h/a/b.elevenchars", None, ""),
        ("https://example.com/", "text/html; charset=utf-8", ".html"),
        ("https://h/a/%ff%00.tif", None, ".tif"),
    ],
)
def test_the_suffix_of_an_asset_comes_from_name_or_type(href, media_type, suffix):
    assert suffix_of(href, media_type) == suffix


API = "https://planetarycomputer.microsoft.com/api/data/v1/item"
TABLE = [
    ("https://h.test/a.tif", "image/tiff", "file"),
    ("https://h.test/a.tif?sig=1&collection=c", None, "file"),
    ("https://h.test/files/x?scope=download&url=s3://b/k", "image/jpeg", "file"),
    ("https://h.test/{id}.tif", None, "file"),
    ("https://[broken?collection=c&item=i", None, "file"),
    (f"{API}/tilejson.json?collection=aster-l1t&item=A", "application/json", "web page"),
    (f"{API}/preview.png?Collection=aster-l1t&ITEM=A&assets=VNIR", "image/png", "web page"),
    ("https://titiler.test/cog/tilejson.json?url=s3://b/k.tif", None, "web page"),
    ("https://titiler.test/cog/preview.png?url=https://h.test/k.tif", "image/png", "web page"),
    ("https://h.test/ows?SERVICE=WMS&request=GetMap", "image/png", "web page"),
    ("https://h.test/tiles/{z}/{x}/{y}.png", "image/png", "web page"),
    ("https://h.test/stac-browser/LC08", "text/html", "web page"),
    ("https://h.test/stac-browser/LC08", "Text/HTML; charset=utf-8", "web page"),
    ("s3://b/k?collection=c&item={z}", None, "file"),
    ("s3://b/k/", None, "prefix"),
    ("s3://b", "image/tiff", "prefix"),
    ("s3://EODATA/x.SAFE", "inode/directory", "prefix"),
    ("https://h.test/x.SAFE", "inode/directory", "prefix"),
    ("https://h.test/listing/", None, "file"),
]


@pytest.mark.parametrize(("href", "media_type", "kind"), TABLE)
def test_the_kind_of_an_asset_follows_from_name_and_type(href, media_type, kind):
    assert asset_kind(href, media_type) == kind
