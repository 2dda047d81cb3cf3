"""Files, pages and prefixes, recognised by media type and href."""

from __future__ import annotations

import pytest

from stacpull.planning.kinds import AssetKind, asset_kind

API = "https://planetarycomputer.microsoft.com/api/data/v1/item"
TABLE = [
    ("https://h.test/a.tif", "image/tiff", AssetKind.FILE),
    ("https://h.test/a.tif?sig=1&collection=c", None, AssetKind.FILE),
    ("https://h.test/download?id=3&item=4", None, AssetKind.FILE),
    ("https://www.dropbox.com/sh/x/grid_001.geojson?dl=1", "application/geo+json", AssetKind.FILE),
    ("https://h.test/files/x?scope=download&url=s3://b/k", "image/jpeg", AssetKind.FILE),
    ("https://h.test/{id}.tif", None, AssetKind.FILE),
    ("https://[broken?collection=c&item=i", None, AssetKind.FILE),
    (f"{API}/tilejson.json?collection=aster-l1t&item=A", "application/json", AssetKind.PAGE),
    (f"{API}/preview.png?Collection=aster-l1t&ITEM=A&assets=VNIR", "image/png", AssetKind.PAGE),
    ("https://titiler.test/cog/tilejson.json?url=s3://b/k.tif", None, AssetKind.PAGE),
    ("https://titiler.test/cog/preview.png?url=https://h.test/k.tif", "image/png", AssetKind.PAGE),
    ("https://h.test/ows?SERVICE=WMS&request=GetMap", "image/png", AssetKind.PAGE),
    ("https://h.test/tiles/{z}/{x}/{y}.png", "image/png", AssetKind.PAGE),
    ("https://h.test/tiles/{Z}/{-y}", None, AssetKind.PAGE),
    ("https://h.test/stac-browser/LC08", "text/html", AssetKind.PAGE),
    ("https://h.test/stac-browser/LC08", "Text/HTML; charset=utf-8", AssetKind.PAGE),
    ("s3://b/page.html", "application/xhtml+xml", AssetKind.PAGE),
    ("s3://b/k", None, AssetKind.FILE),
    ("s3://b/k?collection=c&item={z}", None, AssetKind.FILE),
    ("s3://b/k/", None, AssetKind.PREFIX),
    ("s3://b/", None, AssetKind.PREFIX),
    ("s3://b", "image/tiff", AssetKind.PREFIX),
    ("s3://EODATA/x.SAFE", "inode/directory", AssetKind.PREFIX),
    ("https://h.test/x.SAFE", "inode/directory", AssetKind.PREFIX),
    ("https://h.test/listing/", None, AssetKind.FILE),
]


@pytest.mark.parametrize(("href", "media_type", "kind"), TABLE)
def test_the_kind_of_an_asset_follows_from_name_and_type(
    href: str, media_type: str | None, kind: AssetKind
) -> None:
    assert asset_kind(href, media_type) is kind
