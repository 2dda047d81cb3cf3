"""Headers of TIFF, BigTIFF and COG files, read from any pieces of them.

```
segments = Segments(total)
segments.add(0, first_16_kib)
while isinstance(result := parse(segments), Needs):
    segments.add(result.start, fetch(result.start, result.stop))
```

`parse_file` does this with an open file; all else is pure. `Header.nodata_value` is `nodata` as a number.
"""

from __future__ import annotations

from stacpull.json_values import media_type_of
from stacpull.planning.hrefs import suffix_of
from stacpull_raster.tiff.directories import FIRST_READ
from stacpull_raster.tiff.header import Bounds, Header, Image, Transform
from stacpull_raster.tiff.parser import MAX_BYTES, parse, parse_file
from stacpull_raster.tiff.segments import Needs, Segments, TiffError

__all__ = [
    "FIRST_READ",
    "MAX_BYTES",
    "Bounds",
    "Header",
    "Image",
    "Needs",
    "Segments",
    "TiffError",
    "Transform",
    "is_tiff",
    "may_be_tiff",
    "parse",
    "parse_file",
]

_SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".geotiff", ".btf", ".tf8"})


def is_tiff(media_type: object, href: object) -> bool:
    """Return True for a TIFF, by media type (without parameters) or suffix of the href."""
    stated = media_type_of(media_type)
    suffix = suffix_of(href, None).lower() if isinstance(href, str) else ""
    return "tiff" in stated or stated == "image/tif" or suffix in _SUFFIXES


def may_be_tiff(media_type: str | None, href: str) -> bool:
    return is_tiff(media_type, href) or (media_type is None and not suffix_of(href, None))
