"""Parse the bytes of a file into its `Header`, or report the bytes that are missing.

There are two steps. First the bytes of every directory and value are collected, as far as possible past
missing ones. Only when all of them are known are they interpreted, so a file gives the same header in
whatever order its bytes arrive.
"""

from __future__ import annotations

from io import SEEK_END
from typing import BinaryIO

from stacpull_raster.tiff.directories import Directory, read_directories, read_start
from stacpull_raster.tiff.gdal_metadata import read_ghost, read_metadata
from stacpull_raster.tiff.georeference import crs_kind, epsg, locate, pixel_is_point, read_geokeys
from stacpull_raster.tiff.header import Header
from stacpull_raster.tiff.images import (
    PHOTOMETRICS,
    compression_name,
    describe,
    is_tiled,
    sample_types,
    size_of,
)
from stacpull_raster.tiff.segments import Needs, Reader, Segments, TiffError
from stacpull_raster.tiff.tags import Tag

MOST_BYTES = 1 << 20
"""The largest size of the directories and values of a header, in bytes."""


def parse(segments: Segments, *, most_bytes: int = MOST_BYTES) -> Header | Needs:
    """Read the header of a file, or report which bytes are missing.

    Fetching exactly the bytes of `Needs`, adding them and parsing again always ends.
    """
    reader = Reader(segments, most_bytes)
    start = read_start(reader)
    structure = None if start is None else read_ghost(reader, *start)
    directories = [] if start is None else read_directories(reader, *start)
    return reader.needs() or _header(directories, structure, reader.stop)


def parse_file(file: BinaryIO, start: bytes, *, most_bytes: int = MOST_BYTES) -> Header:
    """Read the header of an open file."""
    segments = Segments(max(len(start), file.seek(0, SEEK_END)))
    segments.add(0, start)
    while isinstance(found := parse(segments, most_bytes=most_bytes), Needs):
        file.seek(found.start)
        data = file.read(found.stop - found.start)
        if not data:
            raise TiffError("it became shorter while it was read")
        segments.add(found.start, data)
    return found


def _header(directories: list[Directory], structure: dict[str, str] | None, header_size: int) -> Header:
    main = directories[0]
    found = tuple(map(describe, directories))
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
        width=found[0].width,
        height=found[0].height,
        bands=bands,
        dtype=dtype,
        bits_per_sample=bits,
        compression=compression_name(main, compression),
        compression_code=compression,
        predictor=_code(main, Tag.Predictor),
        interleave=interleave,
        photometric=PHOTOMETRICS.get(photometric, str(photometric)),
        tiled=is_tiled(main),
        block_width=found[0].block_width,
        block_height=found[0].block_height,
        overviews=tuple((i.width, i.height) for i in found[1:] if i.is_reduced and not i.is_mask),
        masks=tuple((i.width, i.height) for i in found[1:] if i.is_mask),
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
        images=found,
        header_size=header_size,
    )


def _code(directory: Directory, tag: Tag) -> int:
    code = directory.integer(tag)
    return 1 if code is None else code
