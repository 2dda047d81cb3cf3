"""The header of a TIFF file as frozen values, with the names that GDAL and rasterio use."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

ImageSize = tuple[int, int]
"""Width and height in pixels."""

GeoValue = int | float | str | tuple[int, ...] | tuple[float, ...]


class Bounds(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float


class Transform(NamedTuple):
    """Pixel corner to world, as rasterio's Affine: x = a·column + b·row + c, y = d·column + e·row + f."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float


class Image(NamedTuple):
    offset: int
    subfile_type: int
    width: int
    height: int
    block_width: int
    block_height: int
    blocks: int
    sparse: int | None
    sub: bool

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.width // self.block_width), -(-self.height // self.block_height)

    @property
    def is_mask(self) -> bool:
        return bool(self.subfile_type & 4)

    @property
    def is_reduced(self) -> bool:
        return bool(self.subfile_type & 1)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is read from one file. What the file does not state is None or empty."""

    byte_order: str
    bigtiff: bool
    width: int
    height: int
    bands: int
    dtype: str
    bits_per_sample: int
    compression: str
    compression_code: int
    predictor: int
    interleave: str
    photometric: str
    tiled: bool
    block_width: int
    block_height: int
    overviews: tuple[ImageSize, ...]
    masks: tuple[ImageSize, ...]
    epsg: int | None
    crs_kind: str | None
    geokeys: Mapping[str, GeoValue]
    transform: Transform | None
    gcps: int
    pixel_is_point: bool
    nodata: str | None
    tags: Mapping[str, str]
    domains: Mapping[str, Mapping[str, str]]
    band_tags: tuple[Mapping[str, str], ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    descriptions: tuple[str | None, ...]
    structure: Mapping[str, str] | None
    description: str | None
    datetime: str | None
    software: str | None
    images: tuple[Image, ...]
    header_size: int

    @property
    def nodata_value(self) -> float | None:
        """`nodata` as a number, NaN too, in the precision of `dtype`; None if it is not a number."""
        try:
            value = float(self.nodata) if self.nodata is not None else None
        except ValueError:
            return None
        return single(value) if value is not None and self.dtype == "float32" else value

    @property
    def bounds(self) -> Bounds | None:
        """The rectangle around all four corners, in units of the CRS; None without a transform."""
        if self.transform is None:
            return None
        a, b, c, d, e, f = self.transform
        corners = [(x, y) for x in (0, self.width) for y in (0, self.height)]
        xs = [a * x + b * y + c for x, y in corners]
        ys = [d * x + e * y + f for x, y in corners]
        if b == d == 0:  # as rasterio: in a south-up image the top is below the bottom
            return Bounds(c, f + e * self.height, c + a * self.width, f)
        return Bounds(min(xs), min(ys), max(xs), max(ys))


def single(value: float) -> float:
    """Return a number rounded to single precision, or infinity if it is beyond that."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
