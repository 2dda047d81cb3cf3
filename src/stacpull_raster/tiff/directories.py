"""The chain of image file directories, with the bytes of every field that a header is read from.

TIFF 6.0, section 2; BigTIFF: 8 bytes for offsets and counts. Every count and offset is checked
before it is followed: against the end of the file, the limits on bytes and directories, and for loops.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from stacpull_raster.tiff.segments import Reader, TiffError


class Tag(IntEnum):
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


FIRST_READ = 16 * 1024
"""Bytes to request from an unknown file: most headers are within them (COG: IFDs before data)."""
MAX_DIRECTORIES = 256
_AHEAD = 4096
"""Values usually follow their directory, and overviews the image, so they are requested together."""
_MAGIC = {b"II*\0": ByteLayout("<", False), b"MM\0*": ByteLayout(">", False)}
_MAGIC_BIG = {b"II+\0\x08\0\0\0": ByteLayout("<", True), b"MM\0+\0\x08\0\0": ByteLayout(">", True)}
_ENTRIES = {
    ByteLayout(order, bigtiff): struct.Struct(f"{order}HH{'Q8s' if bigtiff else 'I4s'}")
    for order in "<>"
    for bigtiff in (False, True)
}
"""One entry: tag, type, number of values, and the values or where they are."""


class Directory(NamedTuple):
    layout: ByteLayout
    offset: int
    sub: bool
    fields: Mapping[int, TagField]

    def integers(self, tag: int) -> tuple[int, ...]:
        """Return whole numbers, none if the tag is missing."""
        return self._values(tag, INTEGERS, "whole numbers")

    def integer(self, tag: int) -> int | None:
        """Return the first of the whole numbers, None if the tag is missing."""
        values = self.integers(tag)
        if not values and self._read(tag) is not None:
            raise TiffError(f"{label(tag)} has no value")
        return values[0] if values else None

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return the numbers, none if the tag is missing; a fraction over zero is 0, as in libtiff."""
        values = self._values(tag, NUMBERS, "numbers")
        if values and self.fields[tag].kind in RATIONALS:
            pairs = zip(values[::2], values[1::2], strict=True)
            return tuple(above / below if below else 0.0 for above, below in pairs)
        return values

    def text(self, tag: int) -> str | None:
        """Return a text up to its first NUL, as UTF-8 or else as Latin-1; None if the tag is missing."""
        field = self.fields.get(tag)
        if field is None or field.data is None:
            return None
        field.demand(BYTES, "text")
        written = field.data.partition(b"\0")[0]
        try:
            return written.decode()
        except UnicodeDecodeError:
            return written.decode("latin-1")

    def _read(self, tag: int) -> TagField | None:
        field = self.fields.get(tag)
        return None if field is None or field.data is None else field

    def _values(self, tag: int, kinds: frozenset[int], what: str) -> tuple[Any, ...]:
        field = self._read(tag)
        if field is None:
            return ()
        field.demand(kinds, what)
        return field.unpacked(self.layout.order)


def read_start(reader: Reader) -> tuple[ByteLayout, int] | None:
    """Read byte order, width of offsets and the first directory's offset; None if bytes are missing."""
    head = reader.read(0, 8, "the TIFF header", ahead=FIRST_READ - 8)
    if head is None:
        return None
    layout = _MAGIC.get(head[:4])
    if layout is not None:
        return layout, layout.unsigned(head[4:])
    layout = _MAGIC_BIG.get(head)
    if layout is None:
        raise TiffError(f"the file is not a TIFF: it begins with {head[:4].decode('latin-1')!r}")
    first = reader.read(8, 8, "the BigTIFF header", ahead=FIRST_READ - 16)
    return None if first is None else (layout, layout.unsigned(first))


def read_directories(reader: Reader, layout: ByteLayout, first: int) -> list[Directory]:
    """Read the chain at `first`, with the SubIFDs of each, as far as the bytes are known."""
    directories: list[Directory] = []
    seen: set[int] = set()
    offset: int | None = first
    while offset:
        _visit(offset, seen)
        wanted = OF_A_FURTHER_IMAGE if directories else OF_THE_FIRST_IMAGE
        directory, offset = _read_directory(reader, layout, offset, wanted)
        if directory is None:
            break
        directories.append(directory)
        directories.extend(_read_subdirectories(reader, directory, seen))
    if not seen:
        raise TiffError("the file has no image: the offset of its first directory is 0")
    return directories


def read_whole_directory(reader: Reader, layout: ByteLayout, offset: int) -> Directory | None:
    """Read the directory at `offset` with all of its values; None if bytes of the directory are missing."""
    return _read_directory(reader, layout, offset, None)[0]


def _visit(offset: int, seen: set[int]) -> None:
    if offset in seen:
        raise TiffError(f"the directory at byte {offset} is listed twice: the directories form a loop")
    seen.add(offset)
    if len(seen) > MAX_DIRECTORIES:
        raise TiffError(f"the file has more than {MAX_DIRECTORIES} directories")


def _read_subdirectories(reader: Reader, parent: Directory, seen: set[int]) -> Iterator[Directory]:
    """Read the directories that tag 330 names; a chain that starts at one of them is not followed."""
    for offset in parent.integers(Tag.SubIFDs):
        _visit(offset, seen)
        directory, _ = _read_directory(reader, parent.layout, offset, OF_A_SUB_IMAGE, sub=True)
        if directory is not None:
            yield directory


def _read_directory(
    reader: Reader,
    layout: ByteLayout,
    offset: int,
    wanted: frozenset[Tag] | None,
    *,
    sub: bool = False,
) -> tuple[Directory | None, int | None]:
    """Read a directory and the offset of the next one; None if bytes are missing."""
    width = 8 if layout.bigtiff else 2
    counted = reader.read(offset, width, "the directory", ahead=_AHEAD, rest=True)
    if counted is None:
        return None, None
    count, entry = layout.unsigned(counted), _ENTRIES[layout]
    if not count:
        raise TiffError(f"the directory at byte {offset} has no fields")
    size = width + count * entry.size + layout.offset_size
    whole = reader.read(offset, size, "the directory", ahead=_AHEAD, rest=True)
    if whole is None:
        return None, None
    fields: dict[int, TagField] = {}
    for tag, kind, claimed, cell in entry.iter_unpack(whole[width : -layout.offset_size]):
        if tag not in fields and (wanted is None or tag in wanted):  # a second one is ignored, as by libtiff
            used = claimed if wanted is None or tag in ARRAYS or tag in OF_BLOCKS else min(claimed, 1)
            size = size_of_values(tag, kind, used)
            data: bytes | None = None
            if size_of_values(tag, kind, claimed) <= layout.offset_size:
                data = cell[:size]
            elif wanted is None or tag not in OF_BLOCKS:
                data = reader.read(layout.unsigned(cell), size, label(tag))
            fields[tag] = TagField(tag, kind, claimed, data)
    return Directory(layout, offset, sub, fields), layout.unsigned(whole[-layout.offset_size :])
