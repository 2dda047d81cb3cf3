"""Where tiles and strips are: as tifffile reads it, however the bytes come, and whatever a file claims."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from tests.tiff import made
from tests.tiff.made import Value, ascii_field, doubles, shorts, tiff
from tests.tiff.reads import parse_bytes, read, real_files

from stacpull.tiff import MOST_BYTES_WITH_TILES, Header, TiffError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILES = {"tiled": True, "blockxsize": 16, "blockysize": 16}


def written(path: Path, **profile: Any) -> bytes:
    """Return a raster of 300 x 200 pixels."""
    given = {"driver": "GTiff", "width": 300, "height": 200, "count": 1, "dtype": "uint8", **profile}
    values = np.random.default_rng(3).integers(0, 255, (given["count"], 200, 300)).astype(given["dtype"])
    with rasterio.open(path, "w", **given) as file:
        file.write(values)
    return path.read_bytes()


def check(header: Header, path: Path) -> None:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert header.tile_offsets == tuple(page.dataoffsets)
        assert header.tile_byte_counts == tuple(page.databytecounts)
        assert header.fill_order == page.fillorder


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize(
    "profile",
    [
        TILES,
        {**TILES, "compress": "DEFLATE"},
        {**TILES, "count": 3, "interleave": "BAND", "compress": "LZW"},
        {**TILES, "count": 3, "interleave": "PIXEL"},
        {"blockysize": 7},
        {"blockysize": 200},
        {"blockysize": 1, "count": 2, "interleave": "BAND", "dtype": "uint16"},
    ],
)
def test_tile_lists_equal_those_of_tifffile(
    tmp_path: Path, profile: dict[str, Any], endianness: str, bigtiff: str
) -> None:
    path = tmp_path / "made.tif"
    data = written(path, endianness=endianness, BIGTIFF=bigtiff, **profile)
    for known in (0, 100, 16 * 1024, len(data)):
        check(read(data, known=known, most_asks=4, tiles=True).header, path)


def test_tile_lists_of_real_files_are_read(shared_data: Path) -> None:
    for path in real_files(shared_data):
        check(read(path.read_bytes(), tiles=True).header, path)


def test_tile_lists_are_not_read_unless_requested(tmp_path: Path) -> None:
    data = written(tmp_path / "made.tif", **TILES)
    header = parse_bytes(data)
    assert isinstance(header, Header)
    assert (header.tile_offsets, header.tile_byte_counts) == (None, None)
    assert read(data).header.header_size < read(data, tiles=True).header.header_size


def tiled(**changes: Value | None) -> bytes:
    """Return a BigTIFF of 4 tiles of 16 x 16 in an image of 32 x 32, sound but for `changes`."""
    fields = {
        "t256": Value(4, [32]), "t257": Value(4, [32]), "t273": None, "t278": None, "t279": None,
        "t322": Value(3, [16]), "t323": Value(3, [16]),
        "t324": Value(4, [600, 856, 1112, 1368]), "t325": Value(4, [256] * 4),
    }  # fmt: skip
    return tiff(made.image(**{**fields, **changes}), bigtiff=True).ljust(4096, b"\7")


def lists(data: bytes) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    header = read(data, tiles=True).header
    return header.tile_offsets, header.tile_byte_counts


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (tiled(), (4, 4)),
        (tiled(t324=Value(4, [600])), (1, 4)),
        (tiled(t325=None), (4, 0)),
        (tiled(t324=Value(4, range(9))), (4, 4)),
        (tiled(t324=Value(16, [2**64 - 1] * 4)), (4, 4)),
        (tiled(t256=Value(4, [2**31 - 1]), t257=Value(4, [2**31 - 1])), (4, 4)),
    ],
    ids=["sound", "short", "none", "long", "past the end", "an image of 2^62 pixels"],
)
def test_lists_are_given_as_they_are_and_never_longer_than_the_image_needs(
    data: bytes, found: tuple[int, int]
) -> None:
    assert tuple(len(numbers or ()) for numbers in lists(data)) == found


HOSTILE = {
    "2^63 tiles": tiled(t324=Value(16, [600], count=2**63, place=600)),
    "2^61 tiles, whose size wraps around": tiled(t325=Value(16, [600], count=2**61, place=600)),
    "2^32 tiles": tiled(t324=Value(4, [600], count=2**32, place=600)),
    "a list past the end": tiled(t324=Value(16, [600], count=4, place=4090)),
    "signed": tiled(t324=Value(9, [1, 2, 3, 4])) if 9 in made.CODES else tiled(t324=doubles(1, 2, 3, 4)),
    "fractions": tiled(t325=doubles(1, 2, 3, 4)),
    "text": tiled(t324=ascii_field("abcd")),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lists_are_refused_before_anything_is_allocated(data: bytes) -> None:
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(TiffError, match=r"tag 32[45] \(Tile"):
        read(data, tiles=True)
    assert time.process_time() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_more_tiles_than_the_limit_are_refused() -> None:
    count = MOST_BYTES_WITH_TILES // 4 + 1
    big = tiff(made.image(
        t256=Value(4, [2**30]), t257=Value(4, [2**20]), t273=None, t278=None, t279=None, t322=shorts(16),
        t323=shorts(16), t324=Value(4, [8], count=count, place=600),
    )).ljust(5 << 20, b"\1")  # fmt: skip
    with pytest.raises(TiffError, match="makes the header larger than 4194304 bytes"):
        read(big, tiles=True)
