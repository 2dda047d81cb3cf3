"""The images of a tiled TIFF with all their tags and the places of their tiles, as copying tiles needs them.

`parse` reads what describes a file; the lists of tiles, which may be long, and the tags that it does not
interpret are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stacpull.tiff.directories import ENTRIES
from stacpull.tiff.header import Header, Image
from stacpull.tiff.parser import parse
from stacpull.tiff.segments import Needs, Reader, Segments, TiffError
from stacpull.tiff.tags import ByteLayout, Tag, TagField, decode_numbers, label

MOST_BYTES = 4 << 20
"""The largest size of all directories and their values, in bytes: some 300,000 tiles."""
_PLANAR_SEPARATE = 2
_INTEGERS = {3: "u2", 4: "u4", 16: "u8"}
"""Types of offsets and counts, as numpy writes them."""

Places = npt.NDArray[np.uint64]


class TagValue(NamedTuple):
    """One entry of a directory, with the bytes of all its values."""

    kind: int
    claimed: int
    data: bytes


class TileImage(NamedTuple):
    """One image of the file.

    Attributes:
        image: Its sizes.
        tags: All its entries, by number.
        planes: 1, or the number of bands if each has tiles of its own.
        across: Tiles in a row.
        down: Rows of tiles.
        offsets: Where each tile begins, one plane after the other, row by row; 0 for a sparse one.
        counts: Bytes of each tile; 0 for a sparse one.
    """

    image: Image
    tags: Mapping[int, TagValue]
    planes: int
    across: int
    down: int
    offsets: Places
    counts: Places


class TiledFile(NamedTuple):
    """A file all of whose images have tiles."""

    layout: ByteLayout
    header: Header
    images: tuple[TileImage, ...]
    total: int
    """Size of the file in bytes."""


def parse_tiles(segments: Segments) -> TiledFile | Needs:
    """Read the images of a file and the places of their tiles, or report which bytes are missing.

    Args:
        segments: The known bytes of the file.

    Raises:
        TiffError: The file is not a TIFF, contradicts itself, has strips, or too many tiles.
    """
    header = parse(segments)
    if isinstance(header, Needs):
        return header
    if any(image.sub for image in header.images):
        raise TiffError("it has images below others (SubIFDs)")
    if not header.tiled:
        raise TiffError("it has strips, not tiles")
    layout = ByteLayout(header.byte_order, header.bigtiff)
    reader = Reader(segments, MOST_BYTES)
    tags = [_read_tags(reader, layout, image) for image in header.images]
    needs = reader.needs()
    if needs is not None:
        return needs
    if segments.total is None:
        raise TiffError("its size is not known")
    images = [_image(layout, i, t, segments.total) for i, t in zip(header.images, tags, strict=True)]
    return TiledFile(layout, header, tuple(images), segments.total)


def _read_tags(reader: Reader, layout: ByteLayout, image: Image) -> dict[int, TagValue]:
    """Read the entries of a directory with their values, as far as the bytes are known."""
    width, entry = (8 if layout.bigtiff else 2), ENTRIES[layout]
    counted = reader.take(image.offset, width, "the directory")
    if counted is None:
        return {}
    body = reader.take(image.offset + width, layout.unsigned(counted) * entry.size, "the directory")
    found: dict[int, TagValue] = {}
    for tag, kind, count, cell in entry.iter_unpack(body or b""):
        size = TagField(tag, kind, count, cell).size(count)
        inside = size <= layout.offset_size
        data = cell[:size] if inside else reader.take(layout.unsigned(cell), size, label(tag))
        if data is not None and tag not in found:  # a second one is ignored, as by libtiff
            found[tag] = TagValue(kind, count, data)
    return found


def _image(layout: ByteLayout, image: Image, tags: Mapping[int, TagValue], total: int) -> TileImage:
    """Check the lists of an image against its size, and the tiles against the end of the file.

    Raises:
        TiffError: They do not agree.
    """
    if Tag.TileWidth not in tags:
        raise TiffError("an overview or mask has strips, not tiles")
    across, down = -(-image.width // image.block_width), -(-image.height // image.block_height)
    planes = _first(layout, tags, Tag.SamplesPerPixel, 1)
    if _first(layout, tags, Tag.PlanarConfiguration, 1) != _PLANAR_SEPARATE:
        planes = 1
    offsets, counts = (_list(layout, tags, tag) for tag in (Tag.TileOffsets, Tag.TileByteCounts))
    needed = across * down * planes
    if len(offsets) < needed or len(counts) < needed:
        raise TiffError(f"an image needs {needed} tiles, and the file lists {min(len(offsets), len(counts))}")
    offsets, counts = offsets[:needed].copy(), counts[:needed].copy()
    empty = (counts == 0) | (offsets == 0)
    offsets[empty] = counts[empty] = 0
    if needed and (offsets.max() > total or counts.max() > total or (offsets + counts).max() > total):
        raise TiffError(f"a tile reaches past the end of the file ({total} bytes)")
    return TileImage(image, tags, planes, across, down, offsets, counts)


def _first(layout: ByteLayout, tags: Mapping[int, TagValue], tag: Tag, default: int) -> int:
    found = numbers(layout, tags, tag)
    return int(found[0]) if found else default


def numbers(layout: ByteLayout, tags: Mapping[int, TagValue], tag: int) -> tuple[float, ...]:
    """Return the values of a tag as numbers, none if it is missing.

    Raises:
        TiffError: It has another type.
    """
    value = tags.get(tag)
    if value is None:
        return ()
    return decode_numbers(layout.order, TagField(tag, value.kind, value.claimed, b""), value.data)


def _list(layout: ByteLayout, tags: Mapping[int, TagValue], tag: Tag) -> Places:
    value = tags.get(tag)
    if value is None or value.kind not in _INTEGERS:
        raise TiffError(f"{label(tag)} is missing, or does not hold whole numbers")
    stored = np.frombuffer(value.data, np.dtype(layout.order + _INTEGERS[value.kind]))
    return stored.astype(np.uint64)
