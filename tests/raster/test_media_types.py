"""Which assets are TIFFs."""

from __future__ import annotations

import pytest

from stacpull_raster.tiff import is_tiff, may_be_tiff


@pytest.mark.parametrize(
    ("media_type", "href", "is_one", "may_be_one"),
    [
        ("image/tiff; application=geotiff; profile=cloud-optimized", "https://h/a", True, True),
        ("image/tif", "https://h/a", True, True),
        ("application/geotiff", "https://h/a", True, True),
        ("application/zip; of=tiff", "https://h/a.zip", False, False),
        ("application/octet-stream", "https://h/a.BTF?sig=1", True, True),
        ("image/png", "https://h/a", False, False),
        (None, "https://h/a.tf8", True, True),
        (None, "https://h/a.jp2", False, False),
        (None, "https://h/B04", False, True),
    ],
)
def test_a_tiff_is_known_by_media_type_or_suffix(
    media_type: str | None, href: str, is_one: bool, may_be_one: bool
) -> None:
    assert is_tiff(media_type, href) is is_one
    assert may_be_tiff(media_type, href) is may_be_one
