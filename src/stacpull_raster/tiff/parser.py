"""Parse the bytes of a file into its `Header`, or report the bytes that are missing.

There are two steps. First the bytes of every directory and value are collected, as far as possible past
missing ones. Only when all of them are known are they interpreted, so a file gives the same header in
whatever order its bytes arrive.
"""

from __future__ import annotations

from io import SEEK_END
from typing import BinaryIO

from stacpull_raster.tiff.directories import Directory, Tag, label, read_directories, read_start
from stacpull_raster.tiff.gdal_metadata import read_ghost, read_metadata
from stacpull_raster.tiff.georeference import crs_kind, epsg, locate, pixel_is_point, read_geokeys
from stacpull_raster.tiff.header import Header, Image
from stacpull_raster.tiff.segments import Needs, Reader, Segments, TiffError

_LARGEST = 2**31 - 1
"""Pixels per side, as in GDAL."""
_MAX_BANDS = 2**16 - 1
"""SamplesPerPixel is a SHORT (TIFF 6.0, section 8)."""
_OLD_SUBFILE_TYPES = {2: 1, 3: 2}
"""Tag 255 (TIFF 5.0) in the bits of tag 254: reduced, page."""


def describe(directory: Directory) -> Image:
    width = size_of(directory, Tag.ImageWidth)
    height = size_of(directory, Tag.ImageLength)
    tiled = is_tiled(directory)
    if tiled:
        block_width, block_height = (size_of(directory, tag) for tag in (Tag.TileWidth, Tag.TileLength))
    else:
        rows = directory.integer(Tag.RowsPerStrip)
        if rows is not None and rows < 1:
            place = f"{label(Tag.RowsPerStrip)} of the directory at byte {directory.offset}"
            raise TiffError(f"{place} is {rows}")
        block_width, block_height = width, height if rows is None else min(rows, height)
    offsets = directory.fields.get(Tag.TileOffsets if tiled else Tag.StripOffsets)
    counts = directory.integers(Tag.TileByteCounts if tiled else Tag.StripByteCounts)
    subfile_type = directory.integer(Tag.NewSubfileType)
    older = _OLD_SUBFILE_TYPES.get(directory.integer(Tag.SubfileType) or 0, 0)
    return Image(
        offset=directory.offset,
        subfile_type=older if subfile_type is None else subfile_type,
        width=width,
        height=height,
        block_width=block_width,
        block_height=block_height,
        blocks=offsets.claimed if offsets else 0,
        sparse=counts.count(0) if counts else None,
        sub=directory.sub,
    )


def is_tiled(directory: Directory) -> bool:
    return Tag.TileWidth in directory.fields or Tag.TileLength in directory.fields


def size_of(directory: Directory, tag: Tag) -> int:
    size = directory.integer(tag)
    if size is None:
        raise TiffError(f"the directory at byte {directory.offset} has no {label(tag)}")
    if not 0 < size <= (_MAX_BANDS if tag is Tag.SamplesPerPixel else _LARGEST):
        raise TiffError(f"{label(tag)} of the directory at byte {directory.offset} is {size}")
    return size


_LERC = 34887
COMPRESSIONS = {
    1: "none",
    2: "ccittrle",
    3: "ccittfax3",
    4: "ccittfax4",
    5: "lzw",
    6: "ojpeg",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    33003: "jpeg2000",
    33005: "jpeg2000",
    34661: "jbig",
    34712: "jpeg2000",
    _LERC: "lerc",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
    50002: "jxl",
    52546: "jxl_dng_1_7",
}
_LERC_PACKED = {1: "lerc_deflate", 2: "lerc_zstd"}
PHOTOMETRICS = {
    0: "miniswhite",
    1: "minisblack",
    2: "rgb",
    3: "palette",
    4: "mask",
    5: "cmyk",
    6: "ycbcr",
    8: "cielab",
    9: "icclab",
    10: "itulab",
    32803: "cfa",
    32844: "logl",
    32845: "logluv",
    34892: "linear_raw",
}
_WIDTHS = {
    1: ("uint", (8, 16, 32, 64)),
    2: ("int", (8, 16, 32, 64)),
    3: ("float", (16, 32, 64)),
    4: ("uint", (8, 16, 32, 64)),  # "undefined": whole numbers to every reader
    5: ("complex_int", (32, 64)),
    6: ("complex", (32, 64, 128)),
}
"""By SampleFormat (TIFF 6.0, section 19; 5 and 6 of libtiff): the name and the bits that exist of it."""


def compression_name(directory: Directory, code: int) -> str:
    parameters = directory.integers(Tag.LercParameters) if code == _LERC else ()
    if len(parameters) > 1:
        return _LERC_PACKED.get(parameters[1], "lerc")
    return COMPRESSIONS.get(code, str(code))


def sample_types(directory: Directory, bands: int) -> tuple[str, int]:
    """Return the type of the samples (different types joined by `+`) and the bits of the widest."""
    bits = _for_each_band(directory, Tag.BitsPerSample, bands)
    formats = _for_each_band(directory, Tag.SampleFormat, bands)
    if len(bits) == len(formats) == 1:
        return sample_type(bits[0], formats[0]), bits[0]
    wide = bits * bands if len(bits) == 1 else bits
    kinds = formats * bands if len(formats) == 1 else formats
    return "+".join(dict.fromkeys(map(sample_type, wide, kinds))), max(bits)


def sample_type(bits: int, sample_format: int) -> str:
    name, widths = _WIDTHS.get(sample_format, ("", ()))
    width = next((width for width in widths if bits <= width), None)
    # an exponent has no spare bits: half, single and double (24 bits are read as single) are all there are
    if not bits or width is None or (sample_format in {3, 5, 6} and bits not in {24, width}):
        raise TiffError(f"no sample type has {bits} bits and the SampleFormat {sample_format}")
    return f"{name}{width // 2 if sample_format == 5 else width}"  # noqa: PLR2004 -- complex_int16 has two of 16


def _for_each_band(directory: Directory, tag: Tag, bands: int) -> tuple[int, ...]:
    values = directory.integers(tag) or (1,)
    if 1 < len(values) < bands:
        raise TiffError(f"{tag.name} has {len(values)} values for {bands} bands")
    values = values[:bands]
    return values[:1] if len(set(values)) == 1 else values


MAX_BYTES = 1 << 20
"""The largest size of the directories and values of a header, in bytes."""


def parse(segments: Segments, *, max_bytes: int = MAX_BYTES) -> Header | Needs:
    """Read the header of a file, or report which bytes are missing.

    Fetching exactly the bytes of `Needs`, adding them and parsing again always ends.
    """
    reader = Reader(segments, max_bytes)
    start = read_start(reader)
    structure = None if start is None else read_ghost(reader, *start)
    directories = [] if start is None else read_directories(reader, *start)
    return reader.needs() or _header(directories, structure, reader.stop)


def parse_file(file: BinaryIO, start: bytes) -> Header:
    segments = Segments(max(len(start), file.seek(0, SEEK_END)))
    segments.add(0, start)
    while isinstance(result := parse(segments), Needs):
        file.seek(result.start)
        data = file.read(result.stop - result.start)
        if not data:
            raise TiffError("it became shorter while it was read")
        segments.add(result.start, data)
    return result


def _header(directories: list[Directory], structure: dict[str, str] | None, header_size: int) -> Header:
    main = directories[0]
    images = tuple(map(describe, directories))
    bands = size_of(main, Tag.SamplesPerPixel) if Tag.SamplesPerPixel in main.fields else 1
    dtype, bits = sample_types(main, bands)
    compression = _code(main, Tag.Compression)
    photometric = _code(main, Tag.PhotometricInterpretation)
    planar = _code(main, Tag.PlanarConfiguration)
    keys = read_geokeys(main)
    is_point = pixel_is_point(keys)
    transform, gcps = locate(main, pixel_is_point=is_point)
    metadata = read_metadata(main, bands, keys.get("GTRasterTypeGeoKey"))
    interleave = "pixel" if planar == 1 and bands > 1 else "band"
    return Header(
        byte_order=main.layout.order,
        bigtiff=main.layout.bigtiff,
        width=images[0].width,
        height=images[0].height,
        bands=bands,
        dtype=dtype,
        bits_per_sample=bits,
        compression=compression_name(main, compression),
        compression_code=compression,
        predictor=_code(main, Tag.Predictor),
        interleave=interleave,
        photometric=PHOTOMETRICS.get(photometric, str(photometric)),
        tiled=is_tiled(main),
        block_width=images[0].block_width,
        block_height=images[0].block_height,
        overviews=tuple((i.width, i.height) for i in images[1:] if i.is_reduced and not i.is_mask),
        masks=tuple((i.width, i.height) for i in images[1:] if i.is_mask),
        epsg=epsg(keys),
        crs_kind=crs_kind(keys),
        geokeys=keys,
        transform=transform,
        gcps=gcps,
        pixel_is_point=is_point,
        nodata=main.text(Tag.GDAL_NODATA) or None,
        tags=metadata.tags,
        domains=metadata.domains,
        band_tags=tuple(band.tags for band in metadata.bands),
        scales=tuple(band.scale for band in metadata.bands),
        offsets=tuple(band.offset for band in metadata.bands),
        units=tuple(band.unit for band in metadata.bands),
        descriptions=tuple(band.description for band in metadata.bands),
        structure=structure,
        description=main.text(Tag.ImageDescription),
        datetime=main.text(Tag.DateTime),
        software=main.text(Tag.Software),
        images=images,
        header_size=header_size,
    )


def _code(directory: Directory, tag: Tag) -> int:
    code = directory.integer(tag)
    return 1 if code is None else code
