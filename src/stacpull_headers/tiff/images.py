"""The images of a file: their sizes and blocks, which is an overview and which a mask."""

from __future__ import annotations

from stacpull_headers.tiff.directories import Directory
from stacpull_headers.tiff.header import Image, Size
from stacpull_headers.tiff.segments import TiffError
from stacpull_headers.tiff.tags import Tag, label

_LARGEST = 2**31 - 1
"""Pixels a side, as in GDAL."""
_MOST_BANDS = 2**16 - 1
"""SamplesPerPixel is a SHORT (TIFF 6.0, section 8)."""
_OLD_SUBFILE_TYPES = {2: 1, 3: 2}
"""Tag 255 (TIFF 5.0) in the bits of tag 254: reduced, page."""


def describe(directory: Directory) -> Image:
    """Read the sizes of an image.

    Raises:
        TiffError: A size is missing or absurd.
    """
    width = size_of(directory, Tag.ImageWidth)
    height = size_of(directory, Tag.ImageLength)
    block_width, block_height = _block(directory, width, height)
    tiled = is_tiled(directory)
    offsets = directory.fields.get(Tag.TileOffsets if tiled else Tag.StripOffsets)
    counts = directory.integers(Tag.TileByteCounts if tiled else Tag.StripByteCounts)
    return Image(
        offset=directory.offset,
        subfile_type=_subfile_type(directory),
        width=width,
        height=height,
        block_width=block_width,
        block_height=block_height,
        blocks=offsets.claimed if offsets else 0,
        sparse=counts.count(0) if counts else None,
        sub=directory.sub,
    )


def is_tiled(directory: Directory) -> bool:
    """Tell whether the image has tiles, else it has strips."""
    return Tag.TileWidth in directory.fields or Tag.TileLength in directory.fields


def size_of(directory: Directory, tag: Tag) -> int:
    """Read a number of pixels or bands.

    Raises:
        TiffError: It is missing, zero, or above 2^31 - 1 (65,535 bands).
    """
    size = directory.integer(tag)
    if size is None:
        raise TiffError(f"the directory at byte {directory.offset} lacks {label(tag)}")
    if not 0 < size <= (_MOST_BANDS if tag is Tag.SamplesPerPixel else _LARGEST):
        raise TiffError(f"{label(tag)} of the directory at byte {directory.offset} is {size}")
    return size


def overview_sizes(images: tuple[Image, ...]) -> tuple[Size, ...]:
    """Give the sizes of the overviews: all reduced images but masks, the first image apart."""
    return tuple((i.width, i.height) for i in images[1:] if i.is_reduced and not i.is_mask)


def mask_sizes(images: tuple[Image, ...]) -> tuple[Size, ...]:
    """Give the sizes of all masks."""
    return tuple((image.width, image.height) for image in images[1:] if image.is_mask)


def _block(directory: Directory, width: int, height: int) -> Size:
    if is_tiled(directory):
        return size_of(directory, Tag.TileWidth), size_of(directory, Tag.TileLength)
    rows = directory.integer(Tag.RowsPerStrip)
    if rows is not None and rows < 1:
        raise TiffError(f"{label(Tag.RowsPerStrip)} of the directory at byte {directory.offset} is {rows}")
    return width, height if rows is None else min(rows, height)


def _subfile_type(directory: Directory) -> int:
    told = directory.integer(Tag.NewSubfileType)
    if told is not None:
        return told
    return _OLD_SUBFILE_TYPES.get(directory.integer(Tag.SubfileType) or 0, 0)
