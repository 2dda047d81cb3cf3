from __future__ import annotations

import pytest

from stacpull.planning.kinds import suffix_of

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@pytest.mark.parametrize(
    ("href", "media_type", "suffix"),
    [
        ("https://h/a/B01.tif", None, ".tif"),
        ("https://h/a/B01.TIF?key=x.y", "image/png", ".TIF"),
        ("https://h/a/b.tar.gz", None, ".tar.gz"),
        ("https://h/a/b.nc.gz", None, ".gz"),
        ("https://h/a/b%2Etif", None, ".tif"),
        ("s3://bucket/a.b/c.jp2#x", None, ".jp2"),
        ("https://h/x.geojson?dl=1", COG, ".geojson"),
        ("https://h/mlhub/v1/download/gAAAAABf9jVF-_e05e=", COG, ".tif"),
        ("https://h/mlhub/v1/download/gAAAAABf9jVF-_e05e=", None, ""),
        ("https://h/odata/Nodes(B02.tif)/$value", "image/jp2", ".jp2"),
        ("https://h/product/v1.5", None, ""),
        ("https://h/product/v1.7z", None, ".7z"),
        ("https://h/a/.tif", None, ""),
        ("https://h/a/b.", "image/png", ".png"),
        ("https://h/a/b.x-y", None, ""),
        ("https://h/a/b.tenletters", None, ".tenletters"),
        ("https://h/a/b.elevenchars", None, ""),
        ("https://example.com", None, ""),
        ("https://example.com/", "text/html; charset=utf-8", ".html"),
        ("https://h/a/", "IMAGE/TIFF", ".tif"),
        ("https://h/a", "application/geo+json", ".geojson"),
        ("https://h/a", "application/octet-stream", ""),
        ("https://h/a/%ff%00.tif", None, ".tif"),
    ],
)
def test_the_suffix_of_an_asset_comes_from_name_or_type(href, media_type, suffix):
    assert suffix_of(href, media_type) == suffix
