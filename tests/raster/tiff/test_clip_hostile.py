"""Rasters with false tile lists: a sentence that gives the reason, in bounded time and memory."""

import random
import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box
from tests.raster.tiff import made
from tests.raster.tiff.clipping import INSIDE, UTM, degrees, pieces, raster, tiles_of
from tests.raster.tiff.made import Value, doubles, shorts, tiff

from stacpull_raster.clip_area import ClipArea
from stacpull_raster.clipped_file import Sides, clip, parse_tiles
from stacpull_raster.tiff import Needs, Segments, TiffError

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

GEO = {
    33550: doubles(1.0, 1.0, 0.0),
    33922: doubles(0, 0, 0, 10.0, 50.0, 0),
    34735: shorts(1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326),
}
MAX_MEMORY = 100 << 20
MAX_SECONDS = 30.0
"""Processor time: ten times what the largest takes. What is not bounded takes hours."""


def tiled(**changes: Value | None) -> dict[int, Value]:
    """Return a directory of 4 tiles of 16 x 16 in an image of 32 x 32, sound but for `changes`."""
    fields = {
        "t256": Value(4, [32]), "t257": Value(4, [32]), "t273": None, "t278": None, "t279": None,
        "t322": Value(3, [16]), "t323": Value(3, [16]),
        "t324": Value(4, [600, 856, 1112, 1368]), "t325": Value(4, [256] * 4),
        **{f"t{tag}": value for tag, value in GEO.items()},
    }  # fmt: skip
    return made.image(**{**fields, **changes})  # type: ignore[arg-type] # None leaves out


def clip_bytes(data: bytes, *, size: int = 4096, sides: Sides = (-180, -90, 180, 90)) -> Any:
    padded = data.ljust(size, b"\7")
    return clip(tiles_of(padded)[0], ClipArea(box(*sides), 1))


def test_a_valid_raster_is_clipped() -> None:
    assert clip_bytes(tiff(tiled())).window == (0, 0, 32, 32)


def test_an_overview_that_ends_before_the_area_is_left_out() -> None:
    """The size of an overview may be rounded down."""
    main = tiled(t256=shorts(33), t257=shorts(64), t324=shorts(*[600] * 12), t325=shorts(*[256] * 12))
    half = tiled(t254=Value(4, [1]), t256=shorts(16))
    assert clip_bytes(tiff(main, half), sides=(42.2, -10, 42.8, 48)).window == (32, 0, 1, 64)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "an offset past the end": (tiff(tiled(t324=Value(4, [600, 856, 1112, 99_999]))), "past the end"),
    "a size past the end": (tiff(tiled(t325=Value(4, [256, 256, 256, 2**32 - 1]))), "past the end"),
    "a sum that wraps around": (
        tiff(tiled(t324=Value(16, [2**64 - 8] * 4), t325=Value(16, [16] * 4)), bigtiff=True),
        "past the end",
    ),
    "fewer tiles than it needs": (tiff(tiled(t324=Value(4, [600]))), "needs 4 tiles, and the file lists 1"),
    "an image of 2^31 pixels a side": (
        tiff(tiled(t256=Value(4, [2**31 - 1]), t257=Value(4, [2**31 - 1]))), "needs 18014398509481984 tiles",
    ),
    "a list of 2^32 tiles": (
        tiff(tiled(t324=Value(4, [600], count=2**32 - 1, place=600))), "tag 324",
    ),
    "an unknown tag of 2^61 bytes": (
        tiff(tiled(t65001=Value(1, [1], count=2**61, place=600)), bigtiff=True), "tag 65001",
    ),
    "offsets that are text": (tiff(tiled(t324=Value(2, b"abcdefghi\0"))), "does not hold whole numbers"),
    "a loop of directories": (tiff(tiled(), loop_to=8), "listed twice"),
    "no georeference": (tiff(tiled(t33550=None, t33922=None)), "no georeference"),
    "a georeference of zero": (tiff(tiled(t33550=None, t34264=doubles(*[0.0] * 16))), "one line"),
    "a reference system that is none": (
        tiff(tiled(t34735=shorts(1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 1))), "EPSG:1 cannot be used",
    ),
    "a place that its system does not have": (
        tiff(tiled(
            t33922=doubles(0, 0, 0, 1e300, 1e300, 0),
            t34735=shorts(1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32632),
        )), "outside of what EPSG:32632 is made for",
    ),
    "a second page": (tiff(tiled(), tiled()), "several pages"),
    "images below others": (tiff(tiled(t330=Value(4, [8]))), "listed twice|SubIFDs"),
    "its own JPEG": (tiff(tiled(t259=shorts(6))), "tables elsewhere"),
    "Exif": (tiff(tiled(t34665=Value(4, [600]))), "Exif data"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_raster_with_false_tile_lists_is_refused(kind: str) -> None:
    data, why = HOSTILE[kind]
    with measured(), pytest.raises(TiffError, match=why):
        clip_bytes(data)


class measured:  # noqa: N801 -- a context manager
    def __enter__(self) -> None:
        tracemalloc.start()
        self.started = time.process_time()

    def __exit__(self, *_: object) -> None:
        seconds, (_, peak) = time.process_time() - self.started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < MAX_SECONDS
        assert peak < MAX_MEMORY


def test_tiles_that_overlap_are_never_more_than_the_file() -> None:
    """A thousand tiles, each all but a byte of the file: copied one by one they would be a gigabyte."""
    side, size = 32, 2_000_000
    count = side * side
    offsets = [20_000 + number for number in range(count)]
    sizes = [size - 20_000 - count] * count
    fields = tiled(
        t256=Value(4, [16 * side]), t257=Value(4, [16 * side]),
        t324=Value(4, offsets), t325=Value(4, sizes), t33550=doubles(0.01, 0.01, 0),
    )  # fmt: skip
    with measured(), pytest.raises(TiffError, match="overlap"):
        clip_bytes(tiff(fields), size=size)


def test_as_many_tiles_as_are_read_take_bounded_time_and_memory() -> None:
    side = 500
    count = side * side
    fields = tiled(
        t256=Value(4, [16 * side]), t257=Value(4, [16 * side]), t33550=doubles(0.001, 0.001, 0),
        t324=Value(4, [3_000_000 + number for number in range(count)]), t325=Value(3, [1] * count),
    )  # fmt: skip
    with measured():
        found = clip_bytes(tiff(fields), size=4_000_000)
        assert found.size - len(found.head) == count
        read = found.reads[0]
        assert len(list(pieces(read, read.start, bytes(1000)))) == 1


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        changed[draw.randrange(min(len(data), 1500))] = draw.randrange(256)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def spliced(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(8, 1500)
    return data[:at] + struct.pack("<Q", draw.choice([0, 1, 2**32 - 1, 2**63, 2**64 - 1])) + data[at + 8 :]


@pytest.mark.parametrize("change", [flipped, cut, spliced])
def test_a_damaged_raster_is_clipped_or_refused_with_a_reason(tmp_path, change):
    data = raster(tmp_path, compress="deflate", size=(400, 300), tile=64, cog=True)
    area, draw, wrong = degrees(UTM, INSIDE), random.Random(5), 0
    with np.errstate(all="raise"):
        for _ in range(300):
            changed = change(data, draw)
            segments = Segments(len(changed))
            segments.add(0, changed)
            try:
                found = parse_tiles(segments)
                assert not isinstance(found, Needs)
                made_of = clip(found, ClipArea(area, 1))
                if made_of is not None:
                    assert made_of.size <= len(changed) + len(made_of.head)
                    for read in made_of.reads:
                        assert 0 <= read.start < read.stop <= len(changed)
            except TiffError:
                wrong += 1
    assert wrong
