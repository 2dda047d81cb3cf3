"""The tags that a header is read from: their numbers, their types, and how their values are decoded.

Sources: TIFF 6.0, section 2, and its technical note 1 (SubIFDs); the types 16 to 18 of BigTIFF as libtiff
defines them; GeoTIFF 1.1 (OGC 19-008r4); GDAL's private tags (42112, 42113); the registered tags of Esri's
LERC (50674).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from stacpull.tiff.segments import TiffError


class Tag(IntEnum):
    """Numbers of the tags, named as their specifications do."""

    NewSubfileType = 254
    SubfileType = 255
    ImageWidth = 256
    ImageLength = 257
    BitsPerSample = 258
    Compression = 259
    PhotometricInterpretation = 262
    FillOrder = 266
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

_INTEGERS = frozenset({1, 3, 4, 6, 8, 9, 13, 16, 17, 18})
_NUMBERS = _INTEGERS | {_RATIONAL, _SIGNED_RATIONAL, 11, 12}
_BYTES = frozenset({1, 2, 6, 7})
_UNSIGNED = frozenset({3, 4, 13, 16, 18})


class ByteLayout(NamedTuple):
    """The byte order and the width of offsets, from the first bytes of a file.

    Attributes:
        order: As the `struct` module writes it.
        bigtiff: Offsets and counts have 8 bytes, else 4.
    """

    order: str
    bigtiff: bool

    @property
    def offset_size(self) -> int:
        """Bytes of an offset; values of up to this size are stored in the field itself."""
        return 8 if self.bigtiff else 4

    def unsigned(self, data: bytes) -> int:
        """Return the number in `data` (2, 4 or 8 bytes)."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")


class TagField(NamedTuple):
    """One entry of a directory.

    Attributes:
        tag: Its number.
        kind: Type of the values.
        claimed: The number of values that the file claims.
        cell: The last 4 or 8 bytes of the entry: the values, or where they are.
    """

    tag: int
    kind: int
    claimed: int
    cell: bytes

    def size(self, count: int) -> int:
        """Return the size of `count` values in bytes.

        Raises:
            TiffError: The type is unknown.
        """
        size = SIZES.get(self.kind)
        if size is None:
            raise TiffError(f"{label(self.tag)} is of the unknown type {self.kind}")
        return size * count


def decode_integers(order: str, field: TagField, data: bytes) -> tuple[int, ...]:
    """Decode whole numbers.

    Raises:
        TiffError: The field is of another type.
    """
    _demand(field, _INTEGERS, "whole numbers")
    return _unpack(order, field, data)


def decode_unsigned(order: str, field: TagField, data: bytes) -> tuple[int, ...]:
    """Decode whole numbers that cannot be negative.

    Raises:
        TiffError: The field is of another type.
    """
    _demand(field, _UNSIGNED, "whole numbers without a sign")
    return _unpack(order, field, data)


def decode_numbers(order: str, field: TagField, data: bytes) -> tuple[float, ...]:
    """Decode numbers of any type; a fraction over zero is 0, as in libtiff.

    Raises:
        TiffError: The field has another type.
    """
    _demand(field, _NUMBERS, "numbers")
    values = _unpack(order, field, data)
    if field.kind in {_RATIONAL, _SIGNED_RATIONAL}:
        pairs = zip(values[::2], values[1::2], strict=True)
        return tuple(above / below if below else 0.0 for above, below in pairs)
    return values


def decode_text(field: TagField, data: bytes) -> str:
    """Decode text up to its first NUL as UTF-8, or else as Latin-1.

    Raises:
        TiffError: The field has another type.
    """
    _demand(field, _BYTES, "text")
    written = data.partition(b"\0")[0]
    try:
        return written.decode()
    except UnicodeDecodeError:
        return written.decode("latin-1")


def _demand(field: TagField, kinds: frozenset[int], what: str) -> None:
    if field.kind not in kinds:
        raise TiffError(f"{label(field.tag)} is of type {field.kind} and does not hold {what}")


def _unpack(order: str, field: TagField, data: bytes) -> tuple[int, ...]:
    code = CODES[field.kind]
    return struct.unpack(f"{order}{len(data) // SIZES[field.kind] * len(code)}{code[0]}", data)
