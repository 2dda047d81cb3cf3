"""The first image of a TIFF as an array of Zarr, version 2: its metadata, and the bytes of each chunk. Pure.

Sources: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html; TIFF 6.0, sections 14 (predictor) and 15
(tiles); codecs by their names in numcodecs and in imagecodecs.numcodecs.

A tile or strip is a chunk. Zarr has no short chunks: the tiles of TIFF are whole at every edge, but the last
strip is often shorter. Such a file, and one with a compression that Zarr has no codec for, is one chunk if it
is small: the TIFF decoder of imagecodecs reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from stacpull.models import Json
from stacpull.tiff import Transform

MOST_WHOLE = 64 << 20
"""The largest size in bytes, of the file and of the image decoded, of one chunk."""
_CODECS: dict[int, Json | None] = {
    1: None,
    5: {"id": "imagecodecs_lzw"},
    8: {"id": "zlib"},
    32773: {"id": "imagecodecs_packbits"},
    32946: {"id": "zlib"},
    34925: {"id": "lzma"},
    50000: {"id": "zstd"},
}
"""By tag 259."""
_WITHOUT_PREDICTOR = frozenset({1, 32773})
_JPEG = 7
_WHOLE_FILE = {_JPEG: "jpeg", 34887: "lerc", 50001: "webp"}
_PLAIN = frozenset({"miniswhite", "minisblack", "rgb", "palette", "mask", "cmyk"})
"""Colours of which samples are read as they are stored; readers of TIFF convert others to RGB."""
_HORIZONTAL, _FLOATING = 2, 3
_TYPES = {
    f"{name}{bits}": (name[0], bits)
    for name, widths in {
        "uint": (8, 16, 32, 64), "int": (8, 16, 32, 64), "float": (16, 32, 64), "complex": (64, 128),
    }.items()
    for bits in widths
}  # fmt: skip
"""Types of samples: the letter that Zarr writes, and the bits."""


class NotReferencedError(Exception):
    """A file cannot be an array; the message says why, without its name."""


class TiffLayout(NamedTuple):
    """What an array is made from: the fields of `stacpull.tiff.Header`, and columns of `headers`, by name."""

    byte_order: str
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
    epsg: int | None
    transform: Transform | None
    nodata: str | None
    fill_order: int
    tile_offsets: tuple[int, ...]
    tile_byte_counts: tuple[int, ...]


class Chunk(NamedTuple):
    """The bytes of a chunk; the whole file if `size` is 0."""

    key: str
    offset: int
    size: int


class ZarrArray(NamedTuple):
    """An array: `.zarray`, `.zattrs`, and the chunks that exist. Others read as the fill value."""

    metadata: Json
    attributes: Json
    chunks: Iterator[Chunk]


def zarr_array(layout: TiffLayout, size: int | None) -> ZarrArray:
    """Return the first image of a file as an array.

    Args:
        layout: What the header of the file states.
        size: Of the file in bytes; None if it is not known.

    Raises:
        NotReferencedError: Zarr cannot describe the image, or the header contradicts itself.
    """
    dtype = _dtype(layout)
    if layout.photometric not in _PLAIN:
        raise NotReferencedError(f"its colours are {layout.photometric}")
    planar = layout.interleave == "band" and layout.bands > 1
    blocks = (
        layout.bands if planar else 1,
        -(-layout.height // layout.block_height),
        -(-layout.width // layout.block_width),
    )
    _check_lists(layout, math.prod(blocks), size)
    shape, dimensions = [layout.height, layout.width], ["y", "x"]
    block = [layout.block_height, layout.block_width]
    if planar:
        shape, dimensions, block = [layout.bands, *shape], ["band", *dimensions], [1, *block]
    elif layout.bands > 1:
        shape, dimensions, block = [*shape, layout.bands], [*dimensions, "band"], [*block, layout.bands]
    compressor, filters = None, None
    whole = _reason_for_one_chunk(layout, math.prod(block) * int(dtype[2:]))
    if whole is None:
        compressor, filters = _CODECS[layout.compression_code], _filters(layout, dtype, block)
        chunks = _tiles(layout, blocks, planar=planar)
    else:
        if max(math.prod(shape) * int(dtype[2:]), size or 0) > MOST_WHOLE:
            raise NotReferencedError(f"{whole}, and it is larger than {MOST_WHOLE >> 20} MiB")
        if 0 in layout.tile_offsets or 0 in layout.tile_byte_counts:
            raise NotReferencedError(f"{whole}, and parts of it are missing (sparse)")
        # imagecodecs decodes to the byte order of the machine, and every one that it runs on is little-endian
        dtype, block, compressor = dtype.replace(">", "<"), shape, {"id": "imagecodecs_tiff", "index": 0}
        chunks = iter([Chunk(".".join("0" for _ in shape), 0, 0)])
    metadata = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": block,
        "dtype": dtype,
        "compressor": compressor,
        "filters": filters,
        "order": "C",
        "fill_value": _fill_value(layout.nodata, dtype),
    }
    return ZarrArray(metadata, {"_ARRAY_DIMENSIONS": dimensions}, chunks)


def georeference(layout: TiffLayout) -> Json:
    """Return the attributes of a variable `spatial_ref`, as rioxarray writes them; empty without any."""
    attributes: Json = {}
    if layout.epsg is not None:
        attributes["spatial_ref"] = f"EPSG:{layout.epsg}"
    if layout.transform is not None:
        a, b, c, d, e, f = layout.transform
        attributes["GeoTransform"] = " ".join(repr(float(number)) for number in (c, a, b, f, d, e))
    return attributes


def _dtype(layout: TiffLayout) -> str:
    """Return the type of the samples as Zarr writes it."""
    kind, bits = _TYPES.get(layout.dtype, ("", 0))
    if not bits:
        raise NotReferencedError(f"its samples are {layout.dtype}")
    if layout.bits_per_sample != bits:
        raise NotReferencedError(f"its samples have {layout.bits_per_sample} bits")
    order = "|" if bits == 8 else layout.byte_order  # noqa: PLR2004 -- a byte
    return f"{order}{kind}{bits // 8}"


def _check_lists(layout: TiffLayout, needed: int, size: int | None) -> None:
    """Check the lists of tiles against the image and the file."""
    offsets, counts = layout.tile_offsets, layout.tile_byte_counts
    if len(offsets) != needed or len(counts) != needed:
        found = min(len(offsets), len(counts))
        raise NotReferencedError(f"it lists {found} of its {needed} tiles or strips")
    if size is not None and any(a + b > size for a, b in zip(offsets, counts, strict=True) if a and b):
        raise NotReferencedError("a tile or strip reaches past the end of the file")


def _reason_for_one_chunk(layout: TiffLayout, block_size: int) -> str | None:
    """Return why tiles or strips cannot be chunks of `block_size` bytes, decoded; None if they can.

    Raises:
        NotReferencedError: No codec reads the file.
    """
    is_rgb = (layout.photometric, layout.bands, layout.interleave) == ("rgb", 3, "pixel")
    if layout.compression_code == _JPEG and layout.bands > 1 and not is_rgb:  # decoders convert others
        raise NotReferencedError("it is JPEG with several bands that are not RGB")
    if layout.compression_code in _WHOLE_FILE:
        return f"its tiles have no codec ({_WHOLE_FILE[layout.compression_code]})"
    if layout.compression_code not in _CODECS:
        raise NotReferencedError(f"its compression has no codec ({layout.compression})")
    if layout.predictor not in {1, _HORIZONTAL, _FLOATING}:
        raise NotReferencedError(f"its predictor is {layout.predictor}")
    if layout.fill_order != 1:
        return "its bits are in reverse order"
    if not layout.tiled and layout.height % layout.block_height:
        return "its last strip is shorter than the others"
    if layout.compression_code == 1 and not {0, block_size}.issuperset(layout.tile_byte_counts):
        return "its tiles or strips have another size than their pixels"
    return None


def _filters(layout: TiffLayout, dtype: str, block: list[int]) -> list[Json] | None:
    """Return the filter that undoes the predictor."""
    if layout.predictor == 1:
        return None
    if layout.compression_code in _WITHOUT_PREDICTOR:  # readers disagree
        raise NotReferencedError(
            f"its predictor is {layout.predictor}, and its compression {layout.compression}"
        )
    if dtype[1] == "c" or (layout.predictor == _FLOATING and dtype[1] != "f"):
        raise NotReferencedError(f"its predictor is {layout.predictor}, and its samples are {layout.dtype}")
    name, kind = "imagecodecs_floatpred", dtype
    if layout.predictor == _HORIZONTAL:  # differences are those of whole numbers, whatever the samples are
        name, kind = "imagecodecs_delta", f"{dtype[0]}u{dtype[2:]}"
    axis = -2 if layout.interleave == "pixel" else -1
    return [{"id": name, "shape": block, "dtype": kind, "axis": axis, "dist": 1}]


def _tiles(layout: TiffLayout, blocks: tuple[int, int, int], *, planar: bool) -> Iterator[Chunk]:
    """Yield the chunks that exist; one that is sparse has no bytes."""
    places = product(*map(range, blocks))
    for (plane, row, column), offset, size in zip(
        places, layout.tile_offsets, layout.tile_byte_counts, strict=True
    ):
        if offset and size:
            after = ".0" if layout.bands > 1 and not planar else ""
            before = f"{plane}." if planar else ""
            yield Chunk(f"{before}{row}.{column}{after}", offset, size)


def _fill_value(nodata: str | None, dtype: str) -> Any:
    """Return nodata as Zarr writes it; None if the file has none, or one that no sample can have."""
    try:
        number = float(nodata) if nodata is not None else None
    except ValueError:
        return None
    if number is None or dtype[1] == "c":
        return None
    if dtype[1] == "f":
        if math.isnan(number):
            return "NaN"
        return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"
    if not number.is_integer():
        return None
    bits = 8 * int(dtype[2:])
    low, high = (0, 2**bits) if dtype[1] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    whole = int(number) if "." in str(nodata) or "e" in str(nodata).lower() else int(str(nodata))
    return whole if low <= whole < high else None
