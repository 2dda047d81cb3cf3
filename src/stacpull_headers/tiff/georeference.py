"""Where the pixels are: the affine transform, or how many ground control points.

GeoTIFF 1.1 (OGC 19-008r4), annex B.6, in the order in which GDAL takes the tags.
"""

from __future__ import annotations

import math

from stacpull_headers.tiff.directories import Directory
from stacpull_headers.tiff.header import Transform
from stacpull_headers.tiff.segments import TiffError
from stacpull_headers.tiff.tags import Tag, label

_TIEPOINT = 6  # numbers of one: column, row, 0, x, y, z
_MATRIX = 16


def locate(directory: Directory, *, pixel_is_point: bool) -> tuple[Transform | None, int]:
    """Give the transform from pixel corners, or None and how many ground control points there are.

    Raises:
        TiffError: A number is not finite.
    """
    scale = _finite(directory, Tag.ModelPixelScale)
    tiepoints = _finite(directory, Tag.ModelTiepoint)
    matrix = _finite(directory, Tag.ModelTransformation)
    transform = None
    if len(scale) > 1 and scale[0] and scale[1]:
        transform = _from_scale(scale, tiepoints)
    elif len(matrix) == _MATRIX:
        transform = Transform(matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    if transform is None:
        return None, len(tiepoints) // _TIEPOINT
    return (_to_corner(transform) if pixel_is_point else transform), 0


def _from_scale(scale: tuple[float, ...], tiepoints: tuple[float, ...]) -> Transform | None:
    """Place the first tiepoint; a negative scale in y is read as north-up, as GDAL does."""
    if len(tiepoints) < _TIEPOINT:
        return None
    column, row, _, x, y = tiepoints[:5]
    width, height = scale[0], -abs(scale[1])
    return Transform(width, 0.0, x - column * width, 0.0, height, y - row * height)


def _to_corner(centre: Transform) -> Transform:
    """Move the origin from the centre of the first pixel to its corner."""
    a, b, c, d, e, f = centre
    return Transform(a, b, c - (a * 0.5 + b * 0.5), d, e, f - (d * 0.5 + e * 0.5))


def _finite(directory: Directory, tag: Tag) -> tuple[float, ...]:
    values = directory.numbers(tag)
    if not all(map(math.isfinite, values)):
        raise TiffError(f"{label(tag)} holds numbers that are not finite")
    return values
