"""The tags that a header is read from: their numbers, their types, and how their values are decoded.

Sources: TIFF 6.0, section 2, and its technical note 1 (SubIFDs); the types 16 to 18 of BigTIFF as libtiff
defines them; GeoTIFF 1.1 (OGC 19-008r4); GDAL's private tags (42112, 42113); the registered tags of Esri's
LERC (50674).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, NamedTuple

from stacpull_raster.tiff.segments import TiffError


class Tag(IntEnum):
    """Numbers of the tags, named as their specifications do."""

    NewSubfileType = 254
    SubfileType = 255
    ImageWidth = 256
    ImageLength = 257
    BitsPerSample = 258
    Compression = 259
    PhotometricInterpretation = 262
    DocumentName = 269
    ImageDescription = 270
    StripOffsets = 273
    SamplesPerPixel = 277
    RowsPerStrip = 278
    StripByteCounts = 279
    MinSampleValue = 280
    MaxSampleValue = 281
    XResolution = 282
    YResolution = 283
    PlanarConfiguration = 284
    ResolutionUnit = 296
    Software = 305
    DateTime = 306
    Artist = 315
    HostComputer = 316
    Predictor = 317
    TileWidth = 322
    TileLength = 323
    TileOffsets = 324
    TileByteCounts = 325
    SubIFDs = 330
    SampleFormat = 339
    Copyright = 33432
    ModelPixelScale = 33550
    ModelTiepoint = 33922
    ModelTransformation = 34264
    GeoKeyDirectory = 34735
    GeoDoubleParams = 34736
    GeoAsciiParams = 34737
    GDAL_METADATA = 42112
    GDAL_NODATA = 42113
    LercParameters = 50674
    TIFF_RSID = 50908
    GEO_METADATA = 50909


OF_BLOCKS = frozenset({Tag.StripOffsets, Tag.StripByteCounts, Tag.TileOffsets, Tag.TileByteCounts})
"""Offsets and sizes of the pixels: long lists, read if they are in the directory itself or are requested."""

OF_A_SUB_IMAGE = OF_BLOCKS | frozenset(
    {
        Tag.NewSubfileType,
        Tag.SubfileType,
        Tag.ImageWidth,
        Tag.ImageLength,
        Tag.RowsPerStrip,
        Tag.TileWidth,
        Tag.TileLength,
    }
)
"""The tags that are read from an image listed by tag 330."""

OF_A_FURTHER_IMAGE = OF_A_SUB_IMAGE | {Tag.SubIFDs}
"""The tags that are read from overviews, masks and further pages."""

ARRAYS = frozenset(
    {
        Tag.BitsPerSample,
        Tag.SampleFormat,
        Tag.SubIFDs,
        Tag.LercParameters,
        Tag.ModelPixelScale,
        Tag.ModelTiepoint,
        Tag.ModelTransformation,
        Tag.GeoKeyDirectory,
        Tag.GeoDoubleParams,
        Tag.GeoAsciiParams,
        Tag.DocumentName,
        Tag.ImageDescription,
        Tag.Software,
        Tag.DateTime,
        Tag.Artist,
        Tag.HostComputer,
        Tag.Copyright,
        Tag.GDAL_METADATA,
        Tag.GDAL_NODATA,
        Tag.TIFF_RSID,
        Tag.GEO_METADATA,
    }
)
"""Tags of which every value is read; other tags have one value."""

OF_THE_FIRST_IMAGE = frozenset(Tag)
"""The tags that are read from the first image."""


_KNOWN = frozenset(map(int, Tag))


def label(tag: int) -> str:
    """Return a tag as messages write it: `tag 322 (TileWidth)`."""
    return f"tag {tag} ({Tag(tag).name})" if tag in _KNOWN else f"tag {tag}"


_RATIONAL, _SIGNED_RATIONAL = 5, 10

CODES = {
    1: "B",  # BYTE
    2: "c",  # ASCII
    3: "H",  # SHORT
    4: "I",  # LONG
    _RATIONAL: "II",
    6: "b",  # SBYTE
    7: "c",  # UNDEFINED
    8: "h",  # SSHORT
    9: "i",  # SLONG
    _SIGNED_RATIONAL: "ii",
    11: "f",  # FLOAT
    12: "d",  # DOUBLE
    13: "I",  # IFD
    16: "Q",  # LONG8
    17: "q",  # SLONG8
    18: "Q",  # IFD8
}
"""Each type as the `struct` module writes it."""

SIZES = {kind: struct.calcsize("<" + code) for kind, code in CODES.items()}
"""Bytes of one value of each type."""

INTEGERS = frozenset({1, 3, 4, 6, 8, 9, 13, 16, 17, 18})
RATIONALS = frozenset({_RATIONAL, _SIGNED_RATIONAL})
NUMBERS = INTEGERS | RATIONALS | {11, 12}
BYTES = frozenset({1, 2, 6, 7})


class ByteLayout(NamedTuple):
    """The byte order and the width of offsets, from the first bytes of a file."""

    order: str
    bigtiff: bool

    @property
    def offset_size(self) -> int:
        """Bytes of an offset; values of up to this size are stored in the field itself."""
        return 8 if self.bigtiff else 4

    def unsigned(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big")


def size_of_values(tag: int, kind: int, count: int) -> int:
    size = SIZES.get(kind)
    if size is None:
        raise TiffError(f"{label(tag)} is of the unknown type {kind}")
    return size * count


class TagField(NamedTuple):
    """One entry of a directory."""

    tag: int
    kind: int
    claimed: int
    data: bytes | None

    def demand(self, kinds: frozenset[int], what: str) -> None:
        """Refuse values of other types than `kinds`, which are named by `what`."""
        if self.kind not in kinds:
            raise TiffError(f"{label(self.tag)} is of type {self.kind} and does not hold {what}")

    def unpacked(self, order: str) -> tuple[Any, ...]:
        """Return the values as numbers, each fraction as two; `order` as the `struct` module writes it."""
        code, data = CODES[self.kind], self.data or b""
        return struct.unpack(f"{order}{len(data) // SIZES[self.kind] * len(code)}{code[0]}", data)
