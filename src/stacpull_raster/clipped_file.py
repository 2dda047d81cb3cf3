"""The part of a tiled TIFF that an area needs: which bytes to read, and the file they become.

Tiles are copied compressed, so what is read from the clipped file is what is read from the whole one, bit for
bit. The clipped file is laid out as a COG:

    header │ ghost area │ directory, values │ directory, values │ … │ tiles, those of the smallest image first

Its extent is a rectangle of whole tiles around the area. Tiles in the rectangle that the area does not touch
are left out: they are sparse (offset and size 0), and read as nodata. Overviews and masks have the same
extent. An overview is left out if the extent would have to grow by more than half in a direction, to begin
and end with one of its tiles. So is every one after an overview that fits into one tile. A large extent has
two columns of tiles at least: rio-cogeo takes one column for strips.

The ghost area (GDAL, COG driver) notes what was clipped; readers ignore it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from stacpull_raster.clip_area import SLACK, ClipArea, tiles_hit
from stacpull_raster.tiff.directories import ByteLayout, Directory, Tag, TagField, label, read_whole_directory
from stacpull_raster.tiff.gdal_metadata import GHOST
from stacpull_raster.tiff.header import Header, Image
from stacpull_raster.tiff.parser import parse
from stacpull_raster.tiff.segments import Needs, Reader, Segments, TiffError

_PLANAR_SEPARATE = 2
_MAX_LISTS = 4 << 20
"""The most bytes of directories with the lists of tiles: some 300,000 tiles."""
_INTEGERS = {3: "u2", 4: "u4", 16: "u8"}
"""Types of offsets and counts, as numpy writes them."""

TileNumbers = npt.NDArray[np.uint64]


class TileImage(NamedTuple):
    image: Image
    directory: Directory
    planes: int
    across: int
    down: int
    offsets: TileNumbers
    counts: TileNumbers


class TiledFile(NamedTuple):
    layout: ByteLayout
    header: Header
    images: tuple[TileImage, ...]
    total: int
    """Size of the file in bytes."""


def parse_tiles(segments: Segments) -> TiledFile | Needs:
    header = parse(segments)
    if isinstance(header, Needs):
        return header
    layout = ByteLayout(header.byte_order, header.bigtiff)
    reader = Reader(segments, _MAX_LISTS)
    own = header.images if header.tiled and not any(image.sub for image in header.images) else ()
    directories = [read_whole_directory(reader, layout, image.offset) for image in own]
    needs = reader.needs()
    if needs is not None:
        return needs
    total = segments.total
    if total is None:
        raise TiffError("its size is not known")
    pairs = zip(own, directories, strict=True)
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


_MAX_GROWTH = 1.5
"""How much larger, in each direction, the extent may become for the sake of overviews."""
_SMALL = 512
"""Pixels up to which an image need not have tiles."""
_LEFT_OUT = frozenset({288, 289})
"""FreeOffsets, FreeByteCounts: of the whole file."""
_POINTERS = {34665: "Exif data", 34853: "GPS data", 40965: "Exif data", 513: "a JPEG stream"}
"""Tags that point to other places of the file."""
_OLD_JPEG = 6
_RPC = 50844
_RPC_LINE, _RPC_SAMPLE = 2, 3
_TIEPOINT = 6
_DOUBLE, _LONG, _LONG8 = 12, 4, 16
_CLASSIC_END = 1 << 32

_MAX_GAP = 1024
"""Bytes between two tiles that are read and dropped: GDAL's COGs repeat a few bytes around each tile."""
_MAX_READ = 8 << 20
"""Bytes per request, unless a tile is larger."""

_NOTE = re.compile(rb"STACPULL_CLIP=([0-9a-f]{16}),([0-9]{1,19})\n")


Sides = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


class ClipWindow(NamedTuple):
    x: int
    y: int
    width: int
    height: int


class TileRead(NamedTuple):
    """One request: the bytes to request, half-open, and the tiles in it.

    `tiles` has a row for each tile, sorted by where it begins in the source: that, its size, where it goes.
    """

    start: int
    stop: int
    tiles: npt.NDArray[np.int64]


class ClippedFile(NamedTuple):
    head: bytes
    size: int
    reads: tuple[TileRead, ...]
    window: ClipWindow
    has_zeros: bool
    """True if tiles are left out, and neither nodata nor a mask marks them."""


class ClipNote(NamedTuple):
    area_hash: int
    """`ClipArea.hash`."""
    source_size: int
    """Size of the whole file in bytes."""


class _Level(NamedTuple):
    """The images of one size: one and its mask, or the masks alone."""

    images: tuple[TileImage, ...]
    scale: tuple[int, int]
    """Pixels of the main image that make one of these, in each direction."""

    @property
    def unit(self) -> tuple[int, int]:
        x, y = self.scale
        return (
            math.lcm(*(image.image.block_width * x for image in self.images)),
            math.lcm(*(image.image.block_height * y for image in self.images)),
        )


def clip(file: TiledFile, area: ClipArea) -> ClippedFile | None:
    """Return the part of a file that an area needs; None if nothing of the area is in the raster."""
    pixels = area.pixels(file.header)
    if pixels is None:
        return None
    _check_copyable(file)
    shapely.prepare(pixels)
    main = file.images[0].image
    by_size: dict[tuple[int, int], list[TileImage]] = {}
    for image in file.images:
        by_size.setdefault((image.image.width, image.image.height), []).append(image)
    candidates = []
    for (width, height), images in by_size.items():
        scale = _scale(main.width, width), _scale(main.height, height)
        if scale[0] and scale[1]:  # a whole fraction of the main image
            candidates.append(_Level(tuple(images), scale))
    levels, window = _fit(sorted(candidates, key=lambda level: level.scale), pixels.bounds)
    cuts = [
        _cut(image, level.scale, window, pixels)
        for level in sorted(levels, key=lambda level: -level.scale[0])
        for image in level.images
    ]
    return _assemble(file, cuts, window, ClipNote(area.hash, file.total))


def read_note(head: bytes) -> ClipNote | None:
    """Return the description in the first bytes of a clipped file; None if it is not one."""
    start = 16 if head[2:4] in {b"+\0", b"\0+"} else 8
    if not head.startswith(GHOST, start):
        return None
    match = _NOTE.search(head, start, start + 256)
    if match is None:
        return None
    return ClipNote(int.from_bytes(bytes.fromhex(match[1].decode()), signed=True), int(match[2]))


def _check_copyable(file: TiledFile) -> None:
    """Refuse what cannot be copied tile by tile."""
    if any(image.sub for image in file.header.images):
        raise TiffError("it has images below others (SubIFDs)")
    if not file.header.tiled:
        raise TiffError("it has strips, not tiles")
    if file.header.compression_code == _OLD_JPEG:
        raise TiffError("it is compressed as in TIFF 6.0's own JPEG, with tables elsewhere in the file")
    for image in file.images:
        for tag, what in _POINTERS.items():
            if tag in image.directory.fields:
                raise TiffError(f"it points to {what} elsewhere in the file (tag {tag})")
    for image in file.images[1:]:
        if not image.image.is_reduced and not image.image.is_mask:
            raise TiffError("it has several pages")


# --- the extent -------------------------------------------------------------------------------------------


def _scale(whole: int, reduced: int) -> int:
    ratio = whole / reduced
    power = 1 << max(0, round(math.log2(ratio)))
    for scale in (power, round(ratio)):
        if scale and reduced in {-(-whole // scale), whole // scale}:
            return scale
    return 0


def _fit(
    levels: Sequence[_Level], bounds: tuple[float, float, float, float]
) -> tuple[list[_Level], ClipWindow]:
    main = levels[0].images[0].image
    left, top, right, bottom = bounds
    kept, unit = [levels[0]], levels[0].unit
    least = _aligned(main.width, main.height, (left, top, right, bottom), unit)
    if _looks_striped(least.width, least.height, main.block_width):
        is_last = least.x + least.width >= main.width
        left, right = (left - unit[0], right) if is_last else (left, right + unit[0])
        left, right = max(0.0, left), min(float(main.width), right)
        least = _aligned(main.width, main.height, (left, top, right, bottom), unit)
    window = least
    for level in levels[1:]:
        last, scale = kept[-1].images[0].image, kept[-1].scale
        if window.width <= last.block_width * scale[0] and window.height <= last.block_height * scale[1]:
            break
        unit = math.lcm(unit[0], level.unit[0]), math.lcm(unit[1], level.unit[1])
        wider = _aligned(main.width, main.height, (left, top, right, bottom), unit)
        image = level.images[0].image
        _, _, width, height = _part_of(image, level.scale, wider)
        grows = max(wider.width / least.width, wider.height / least.height) > _MAX_GROWTH
        if grows or width < 1 or height < 1 or _looks_striped(width, height, image.block_width):
            break
        kept.append(level)
        window = wider
    return kept, window


def _part_of(image: Image, scale: tuple[int, int], window: ClipWindow) -> ClipWindow:
    x, y = window.x // scale[0], window.y // scale[1]
    # at the right and lower edge an image may end a pixel before or after what division gives
    width = min(image.width - x, -(-window.width // scale[0]))
    return ClipWindow(x, y, width, min(image.height - y, -(-window.height // scale[1])))


def _looks_striped(width: int, height: int, block_width: int) -> bool:
    return width == block_width and max(width, height) > _SMALL


def _aligned(width: int, height: int, bounds: Sides, unit: tuple[int, int]) -> ClipWindow:
    left, top, right, bottom = bounds
    x, y = int((left + SLACK) // unit[0]) * unit[0], int((top + SLACK) // unit[1]) * unit[1]
    # an area may be thinner than the slack, but the rectangle has a unit at least
    end_x = min(width, max(x + unit[0], math.ceil((right - SLACK) / unit[0]) * unit[0]))
    end_y = min(height, max(y + unit[1], math.ceil((bottom - SLACK) / unit[1]) * unit[1]))
    return ClipWindow(x, y, end_x - x, end_y - y)


# --- one image --------------------------------------------------------------------------------------------


class _Cut(NamedTuple):
    source: TileImage
    width: int
    height: int
    shift: tuple[int, int]
    """Columns and rows that are cut off before it."""
    offsets: TileNumbers
    """Of its tiles in the source, in the order of the clipped file; 0 for those that are left out."""
    counts: TileNumbers


def _cut(tiles: TileImage, scale: tuple[int, int], window: ClipWindow, area: Any) -> _Cut:
    image = tiles.image
    x, y, width, height = _part_of(image, scale, window)
    columns = range(x // image.block_width, -(-(x + width) // image.block_width))
    rows = range(y // image.block_height, -(-(y + height) // image.block_height))
    tile = float(image.block_width * scale[0]), float(image.block_height * scale[1])
    hit = tiles_hit(area, tile, columns, rows)
    at = np.asarray(rows)[:, None] * tiles.across + np.asarray(columns)[None, :]
    index = (np.arange(tiles.planes)[:, None, None] * (tiles.across * tiles.down) + at[None]).ravel()
    wanted = np.broadcast_to(hit, (tiles.planes, *hit.shape)).ravel()
    zero = np.uint64(0)
    offsets = np.where(wanted, tiles.offsets[index], zero)
    counts = np.where(wanted, tiles.counts[index], zero)
    return _Cut(tiles, width, height, (x, y), offsets, counts)


# --- the file ---------------------------------------------------------------------------------------------


def _assemble(file: TiledFile, cuts: Sequence[_Cut], window: ClipWindow, note: ClipNote) -> ClippedFile:
    """Lay out the file. `cuts` are in the order of their tiles; directories keep the order of the source."""
    offsets = np.concatenate([cut.offsets for cut in cuts])
    counts = np.concatenate([cut.counts for cut in cuts])
    tiles, goes_to, size = _place(offsets, counts)
    if size > file.total:
        raise TiffError("its tiles overlap, and are more than the file")
    ordered = [cut for image in file.images for cut in cuts if cut.source is image]
    start = len(_head(file.layout, ordered, {}, note))
    placed = np.where(counts > 0, goes_to + np.uint64(start), np.uint64(0))
    ends = np.cumsum([len(cut.offsets) for cut in cuts])
    lists = {id(cut): placed[end - len(cut.offsets) : end] for cut, end in zip(cuts, ends, strict=True)}
    if not file.layout.bigtiff and start + size >= _CLASSIC_END:
        raise TiffError("it would be larger than a TIFF can be")
    head = _head(file.layout, ordered, lists, note)
    tiles[:, 2] += start
    is_marked = file.header.nodata is not None or any(image.image.is_mask for image in file.images)
    has_zeros = not (is_marked or counts.all())
    return ClippedFile(head, start + size, tuple(_reads(tiles)), window, has_zeros)


def _place(offsets: TileNumbers, counts: TileNumbers) -> tuple[npt.NDArray[np.int64], TileNumbers, int]:
    goes_to = np.zeros(len(offsets), dtype=np.uint64)
    there = np.flatnonzero(counts)
    if not len(there):
        return np.zeros((0, 3), dtype=np.int64), goes_to, 0
    pairs = np.column_stack((offsets[there], counts[there]))
    distinct, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    sizes = distinct[order, 1]
    places = np.empty(len(order), dtype=np.uint64)
    places[order] = np.concatenate(([np.uint64(0)], np.cumsum(sizes)[:-1]))
    goes_to[there] = places[inverse.ravel()]
    tiles = np.column_stack((distinct, places)).astype(np.int64)
    return tiles, goes_to, sum(sizes.tolist())


def _reads(tiles: npt.NDArray[np.int64]) -> Iterator[TileRead]:
    if not len(tiles):
        return
    tiles = tiles[np.argsort(tiles[:, 0], kind="stable")]
    starts = tiles[:, 0].tolist()
    ends = np.maximum.accumulate(tiles[:, 0] + tiles[:, 1]).tolist()
    first, start = 0, starts[0]
    for at in range(1, len(starts)):
        end = ends[at - 1]
        gap = starts[at] - end
        if gap > _MAX_GAP or (gap >= 0 and end - start >= _MAX_READ):
            yield TileRead(start, end, tiles[first:at])
            first, start = at, starts[at]
    yield TileRead(start, ends[-1], tiles[first:])


def _head(
    layout: ByteLayout, cuts: Sequence[_Cut], lists: Mapping[int, TileNumbers], note: ClipNote
) -> bytes:
    """Return the file up to the first tile; without `lists` all offsets are 0, and the size is the same."""
    order = "little" if layout.order == "<" else "big"
    text = (
        "LAYOUT=IFDS_BEFORE_DATA\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
        f"STACPULL_CLIP={note.area_hash & (1 << 64) - 1:016x},{note.source_size}\n"
    ).encode()
    ghost = GHOST + b"%06d bytes\n" % len(text) + text
    at = (16 if layout.bigtiff else 8) + len(ghost)
    at += (pad := at % 2)
    start = (b"II" if order == "little" else b"MM") + struct.pack(
        f"{layout.order}HHHQ" if layout.bigtiff else f"{layout.order}HI",
        *((43, 8, 0, at) if layout.bigtiff else (42, at)),
    )
    parts = [start, ghost, b" " * pad]
    for number, cut in enumerate(cuts, 1):
        directory = _directory(layout, cut, lists.get(id(cut)), at, last=number == len(cuts))
        parts.append(directory)
        at += len(directory)
    return b"".join(parts)


def _directory(layout: ByteLayout, cut: _Cut, offsets: TileNumbers | None, at: int, *, last: bool) -> bytes:
    """Return a directory that begins at byte `at`, with its values behind it."""
    tags = _tags(layout, cut, np.zeros_like(cut.counts) if offsets is None else offsets)
    width = layout.offset_size
    counted = struct.Struct(layout.order + ("Q" if layout.bigtiff else "H"))
    entry = struct.Struct(layout.order + ("HHQ" if layout.bigtiff else "HHI"))
    unsigned = struct.Struct(layout.order + ("Q" if layout.bigtiff else "I"))
    behind = at + counted.size + len(tags) * (entry.size + width) + width
    entries, values = bytearray(counted.pack(len(tags))), bytearray()
    for tag in sorted(tags):
        value = tags[tag]
        data = value.data or b""
        entries += entry.pack(tag, value.kind, value.claimed)
        if len(data) <= width:
            entries += data.ljust(width, b"\0")
            continue
        entries += unsigned.pack(behind + len(values))
        values += data + b"\0" * (len(data) % 2)
    values += b"\0" * ((behind + len(values)) % 2)
    following = 0 if last else behind + len(values)
    return bytes(entries + unsigned.pack(following) + values)


def _tags(layout: ByteLayout, cut: _Cut, offsets: TileNumbers) -> dict[int, TagField]:
    kept = {tag: value for tag, value in cut.source.directory.fields.items() if tag not in _LEFT_OUT}
    place = np.dtype(f"{layout.order}u8" if layout.bigtiff else f"{layout.order}u4")
    kind = _LONG8 if layout.bigtiff else _LONG
    for tag, size in ((Tag.ImageWidth, cut.width), (Tag.ImageLength, cut.height)):
        kept[tag] = TagField(tag, _LONG, 1, struct.pack(f"{layout.order}I", size))
    for tag, places in ((Tag.TileOffsets, offsets), (Tag.TileByteCounts, cut.counts)):
        kept[tag] = TagField(tag, kind, len(places), places.astype(place).tobytes())
    for moved, values in _moved(cut).items():
        packed = struct.pack(f"{layout.order}{len(values)}d", *values)
        kept[moved] = TagField(moved, _DOUBLE, len(values), packed)
    return kept


def _moved(cut: _Cut) -> dict[int, list[float]]:
    """Return the tags with the position of the image, for one that begins at `cut.shift`."""
    across, down = cut.shift
    directory, moved = cut.source.directory, dict[int, list[float]]()
    scale = directory.numbers(Tag.ModelPixelScale)
    tiepoints = list(directory.numbers(Tag.ModelTiepoint))
    for at in range(0, len(tiepoints) // _TIEPOINT * _TIEPOINT, _TIEPOINT):
        if len(scale) > 1:
            tiepoints[at + 3] += across * scale[0]
            tiepoints[at + 4] -= down * abs(scale[1])
        else:
            tiepoints[at] -= across
            tiepoints[at + 1] -= down
    if tiepoints:
        moved[Tag.ModelTiepoint] = tiepoints
    matrix = list(directory.numbers(Tag.ModelTransformation))
    if len(matrix) == 16:  # noqa: PLR2004 -- 4 x 4
        for row in range(3):
            matrix[4 * row + 3] += matrix[4 * row] * across + matrix[4 * row + 1] * down
        moved[Tag.ModelTransformation] = matrix
    rpc = list(directory.numbers(_RPC))
    if len(rpc) > _RPC_SAMPLE:
        rpc[_RPC_LINE] -= down
        rpc[_RPC_SAMPLE] -= across
        moved[_RPC] = rpc
    return moved


def pieces(read: TileRead, at: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    starts, ends = read.tiles[:, 0], read.tiles[:, 0] + read.tiles[:, 1]
    begin = stop = goes_to = 0
    for start, size, place in read.tiles[(starts < at + len(data)) & (ends > at)].tolist():
        first, last = max(0, start - at), min(len(data), start + size - at)
        moved = place + at + first - start
        if first == stop and moved == goes_to + stop - begin and stop > begin:
            stop = last
            continue
        if stop > begin:
            yield goes_to, data[begin:stop]
        begin, stop, goes_to = first, last, moved
    if stop > begin:
        yield goes_to, data[begin:stop]
