"""Headers of TIFF, BigTIFF and COG files, read from any pieces of them.

```
segments = Segments(total)
segments.add(0, first_16_kib)
while isinstance(found := parse(segments), Needs):
    segments.add(found.start, fetch(found.start, found.stop))
```

`parse_file` does this with an open file; all else is pure. `Header.nodata_value` is `nodata` as a number.
"""

from __future__ import annotations

from stacpull.tiff.directories import FIRST_READ
from stacpull.tiff.header import Bounds, Header, Image, Transform
from stacpull.tiff.parser import MOST_BYTES, parse, parse_file
from stacpull.tiff.segments import Needs, Segments, TiffError

__all__ = [
    "FIRST_READ",
    "MOST_BYTES",
    "Bounds",
    "Header",
    "Image",
    "Needs",
    "Segments",
    "TiffError",
    "Transform",
    "parse",
    "parse_file",
]
