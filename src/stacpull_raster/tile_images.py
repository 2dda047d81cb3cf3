"""The images of a tiled TIFF with all their tags and the places of their tiles, as copying tiles needs them.

`parse` reads what describes a file; the lists of tiles, which may be long, and the tags that it does not
interpret are read here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stacpull_raster.tiff.directories import Directory, read_whole_directory
from stacpull_raster.tiff.header import Header, Image
from stacpull_raster.tiff.parser import parse
from stacpull_raster.tiff.segments import Needs, Reader, Segments, TiffError
from stacpull_raster.tiff.tags import ByteLayout, Tag, label

_PLANAR_SEPARATE = 2
_MOST_LISTS = 4 << 20
"""The most bytes of directories with the lists of tiles: some 300,000 tiles."""
_INTEGERS = {3: "u2", 4: "u4", 16: "u8"}
"""Types of offsets and counts, as numpy writes them."""

TileNumbers = npt.NDArray[np.uint64]


class TileImage(NamedTuple):
    """One image of the file."""

    image: Image
    directory: Directory
    planes: int
    across: int
    down: int
    offsets: TileNumbers
    counts: TileNumbers


class TiledFile(NamedTuple):
    """A file all of whose images have tiles."""

    layout: ByteLayout
    header: Header
    images: tuple[TileImage, ...]
    total: int
    """Size of the file in bytes."""


def parse_tiles(segments: Segments) -> TiledFile | Needs:
    """Read the images of a file and the places of their tiles, or report which bytes are missing."""
    header = parse(segments)
    if isinstance(header, Needs):
        return header
    if any(image.sub for image in header.images):
        raise TiffError("it has images below others (SubIFDs)")
    if not header.tiled:
        raise TiffError("it has strips, not tiles")
    layout = ByteLayout(header.byte_order, header.bigtiff)
    reader = Reader(segments, _MOST_LISTS)
    directories = [read_whole_directory(reader, layout, image.offset) for image in header.images]
    needs = reader.needs()
    if needs is not None:
        return needs
    total = segments.total
    if total is None:
        raise TiffError("its size is not known")
    pairs = zip(header.images, directories, strict=True)
    images = [_image(image, directory, total) for image, directory in pairs if directory is not None]
    return TiledFile(layout, header, tuple(images), total)


def _image(image: Image, directory: Directory, total: int) -> TileImage:
    if Tag.TileWidth not in directory.fields:
        raise TiffError("an overview or mask has strips, not tiles")
    across, down = image.grid
    planes = 1
    if directory.integer(Tag.PlanarConfiguration) == _PLANAR_SEPARATE:
        planes = directory.integer(Tag.SamplesPerPixel) or 1
    offsets, counts = (_list(directory, tag) for tag in (Tag.TileOffsets, Tag.TileByteCounts))
    needed = across * down * planes
    if len(offsets) < needed or len(counts) < needed:
        raise TiffError(f"an image needs {needed} tiles, and the file lists {min(len(offsets), len(counts))}")
    offsets, counts = offsets[:needed].copy(), counts[:needed].copy()
    empty = (counts == 0) | (offsets == 0)
    offsets[empty] = counts[empty] = 0
    if needed and (offsets.max() > total or counts.max() > total or (offsets + counts).max() > total):
        raise TiffError(f"a tile reaches past the end of the file ({total} bytes)")
    return TileImage(image, directory, planes, across, down, offsets, counts)


def _list(directory: Directory, tag: Tag) -> TileNumbers:
    field = directory.fields.get(tag)
    if field is None or field.data is None or field.kind not in _INTEGERS:
        raise TiffError(f"{label(tag)} is missing, or does not hold whole numbers")
    stored = np.frombuffer(field.data, np.dtype(directory.layout.order + _INTEGERS[field.kind]))
    return stored.astype(np.uint64)
