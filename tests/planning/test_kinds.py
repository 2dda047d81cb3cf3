"""Files, pages and prefixes, told apart by media type and href."""

from __future__ import annotations

import pytest

from stacpull.planning.kinds import Kind, kind_of

API = "https://planetarycomputer.microsoft.com/api/data/v1/item"
TABLE = [
    ("https://h.test/a.tif", "image/tiff", Kind.FILE),
    ("https://h.test/a.tif?sig=1&collection=c", None, Kind.FILE),
    ("https://h.test/download?id=3&item=4", None, Kind.FILE),
    ("https://www.dropbox.com/sh/x/grid_001.geojson?dl=1", "application/geo+json", Kind.FILE),
    ("https://h.test/files/x?scope=download&url=s3://b/k", "image/jpeg", Kind.FILE),
    ("https://h.test/{id}.tif", None, Kind.FILE),
    ("https://[broken?collection=c&item=i", None, Kind.FILE),
    (f"{API}/tilejson.json?collection=aster-l1t&item=A", "application/json", Kind.PAGE),
    (f"{API}/preview.png?Collection=aster-l1t&ITEM=A&assets=VNIR", "image/png", Kind.PAGE),
    ("https://titiler.test/cog/tilejson.json?url=s3://b/k.tif", None, Kind.PAGE),
    ("https://titiler.test/cog/preview.png?url=https://h.test/k.tif", "image/png", Kind.PAGE),
    ("https://h.test/ows?SERVICE=WMS&request=GetMap", "image/png", Kind.PAGE),
    ("https://h.test/tiles/{z}/{x}/{y}.png", "image/png", Kind.PAGE),
    ("https://h.test/tiles/{Z}/{-y}", None, Kind.PAGE),
    ("https://h.test/stac-browser/LC08", "text/html", Kind.PAGE),
    ("https://h.test/stac-browser/LC08", "Text/HTML; charset=utf-8", Kind.PAGE),
    ("s3://b/page.html", "application/xhtml+xml", Kind.PAGE),
    ("s3://b/k", None, Kind.FILE),
    ("s3://b/k?collection=c&item={z}", None, Kind.FILE),
    ("s3://b/k/", None, Kind.PREFIX),
    ("s3://b/", None, Kind.PREFIX),
    ("s3://b", "image/tiff", Kind.PREFIX),
    ("s3://EODATA/x.SAFE", "inode/directory", Kind.PREFIX),
    ("https://h.test/x.SAFE", "inode/directory", Kind.PREFIX),
    ("https://h.test/listing/", None, Kind.FILE),
]


@pytest.mark.parametrize(("href", "media_type", "kind"), TABLE)
def test_what_an_asset_is(href: str, media_type: str | None, kind: Kind) -> None:
    assert kind_of(href, media_type) is kind
