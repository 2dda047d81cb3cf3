"""A clipped raster is read as the whole one is, window by window, whatever it is made of."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import MultiPolygon, Polygon, box
from tests.raster.tiff.clipping import INSIDE, UTM, Part, clipped, compare, degrees, raster, tiles_of

from stacpull_raster.clip_area import ClipArea
from stacpull_raster.clipped_file import clip
from stacpull_raster.tiff import TiffError

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
"""Rasterio itself does."""
WGS84 = CRS.from_epsg(4326)

KINDS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate"},
    "deflate, horizontal differences": {"compress": "deflate", "predictor": 2},
    "zstd, floating point": {
        "compress": "zstd", "predictor": 3, "dtype": "float32", "size": (800, 700),
    },
    "webp": {"compress": "webp", "count": 3, "dtype": "uint8", "quality": 100, "size": (640, 600)},
    "jpeg and a mask": {"compress": "jpeg", "count": 3, "dtype": "uint8", "mask": True},
    "lerc": {"compress": "lerc"},
    "uncompressed": {"cog": False},
    "bands apart, overviews": {
        "compress": "lzw", "count": 3, "interleave": "band", "cog": False, "overviews": (2, 4),
    },
    "bands together": {"compress": "deflate", "count": 4, "interleave": "pixel", "cog": False},
    "BigTIFF": {"compress": "deflate", "bigtiff": "YES"},
    "big-endian": {"compress": "deflate", "cog": False, "ENDIANNESS": "BIG", "overviews": (2,)},
    "overviews and masks behind the image": {
        "compress": "deflate", "cog": False, "overviews": (2, 4), "mask": True,
    },
    "nodata": {"compress": "deflate", "nodata": 17},
    "sparse": {"compress": "deflate", "cog": False, "nodata": 0, "holes": (256, 512, 0, 600)},
    "pixels are points": {"compress": "deflate", "tags": {"AREA_OR_POINT": "Point"}, "cog": False},
    "twelve bits": {"compress": "deflate", "cog": False, "NBITS": 12, "overviews": (2,)},
    "an alpha band": {"compress": "webp", "count": 4, "dtype": "uint8", "quality": 100, "size": (640, 600)},
    "tiles of the web": {"compress": "deflate", "tiling_scheme": "GoogleMapsCompatible", "tile": 256},
}  # fmt: skip


def part_of(data: bytes, area: Any) -> Part:
    found = clipped(data, area)
    assert found is not None
    return found


def check(tmp_path: Path, data: bytes, area: Any) -> Part:
    """Clip and compare; few bytes are fetched for it, and it is a COG."""
    from rio_cogeo.cogeo import cog_validate  # noqa: PLC0415 - takes a second, in each process that collects tests

    part = part_of(data, area)
    assert compare(tmp_path, data, part, area) > 0
    assert part.fetched <= 1.2 * part.tile_bytes
    valid, errors, _ = cog_validate(tmp_path / "part.tif", quiet=True)
    assert valid, errors
    return part


@pytest.mark.parametrize("kind", KINDS)
def test_a_clipped_file_has_the_pixels_of_the_whole(tmp_path: Path, kind: str) -> None:
    data = raster(tmp_path, **KINDS[kind])
    part = check(tmp_path, data, degrees(UTM, INSIDE))
    assert part.plan.size < len(data) * 0.8


def test_only_the_tiles_that_the_area_touches_are_fetched(tmp_path: Path) -> None:
    data = raster(tmp_path, compress="deflate", cog=False)
    part = check(tmp_path, data, degrees(UTM, (601_500, 5_097_700, 602_400, 5_099_600)))
    whole = part.whole.images[0]
    assert part.tile_bytes == whole.counts.reshape(8, 10)[0:2, 1:2].sum()
    assert part.plan.window == (128, 0, 128, 256)


def test_a_polygon_leaves_out_the_tiles_beside_it(tmp_path: Path) -> None:
    data = raster(tmp_path, compress="deflate", cog=False, nodata=0)
    whole = box(*INSIDE)
    corner = Polygon([(603_000, 5_093_500), (607_000, 5_093_500), (603_000, 5_097_500)])
    there, half = (
        shapely.transform(one, lambda p: np.column_stack(rasterio.warp.transform(UTM, WGS84, *p.T)))
        for one in (whole, corner)
    )
    part = check(tmp_path, data, half)
    assert part.tile_bytes < 0.8 * part_of(data, there).tile_bytes
    with rasterio.open(tmp_path / "part.tif") as file:
        assert file.read(1)[0, -1] == 0  # beside the polygon: sparse


@pytest.mark.parametrize(
    ("sides", "window"),
    [
        ((500_000, 5_090_000, 601_000, 5_101_000), (0, 0, 256, 1000)),
        ((611_000, 5_080_000, 700_000, 5_091_000), (1024, 896, 176, 104)),
        ((500_000, 5_000_000, 700_000, 5_200_000), (0, 0, 1200, 1000)),
    ],
    ids=["left of it", "the last corner", "all of it"],
)
def test_an_area_past_the_edges_is_cut_at_the_edges(tmp_path, sides, window):
    data = raster(tmp_path, compress="deflate", cog=False)
    area = degrees(UTM, sides)  # type: ignore[arg-type] # four
    assert check(tmp_path, data, area).plan.window == window


@pytest.mark.parametrize(
    "area",
    [
        box(9, 10, 10, 11),
        box(-170, 45, -160, 46),
        degrees(UTM, (590_000, 5_093_500, 599_000, 5_097_500)),
        box(-80, -46, -79, -45),
    ],
    ids=["south", "the other side", "beside it", "the antipodes"],
)
def test_an_area_outside_gives_nothing(tmp_path: Path, area: Any) -> None:
    assert clipped(raster(tmp_path, compress="deflate"), area) is None


@pytest.mark.parametrize("angle", [30, 90, -135])
def test_a_rotated_raster_is_clipped(tmp_path: Path, angle: float) -> None:
    cosine, sine = 10 * math.cos(math.radians(angle)), 10 * math.sin(math.radians(angle))
    turned = rasterio.Affine(cosine, sine, 600_000, sine, -cosine, 5_100_000)
    data = raster(tmp_path, transform=turned, compress="deflate", cog=False, overviews=(2,))
    x, y = 600_000 + 520 * cosine + 480 * sine, 5_100_000 + 520 * sine - 480 * cosine
    part = check(tmp_path, data, degrees(UTM, (x - 900, y - 900, x + 900, y + 900)))
    assert part.plan.size < len(data) / 3


ACROSS = MultiPolygon([box(179.5, -17.5, 180, -17), box(-180, -17.5, -179.5, -17)])
"""An area across the antimeridian, as it is cut there."""


@pytest.mark.parametrize("left", [179.0, -181.0], ids=["past 180", "past -180"])
def test_a_raster_in_degrees_across_the_antimeridian(tmp_path: Path, left: float) -> None:
    where = from_origin(left, -16.5, 0.002, 0.002)
    data = raster(tmp_path, crs=WGS84, transform=where, compress="deflate", cog=False)
    area = box(left + 0.5, -17.5, left + 1.5, -17)  # as the raster counts
    part = part_of(data, ACROSS)
    assert compare(tmp_path, data, part, area) > 12
    assert part.plan.window == (128, 128, 640, 384)


def test_a_global_raster_is_clipped_on_both_sides_of_the_antimeridian(tmp_path: Path) -> None:
    where = from_origin(-180, 90, 0.3, 0.18)
    data = raster(tmp_path, crs=WGS84, transform=where, compress="deflate", cog=False)
    ends = MultiPolygon([box(170, -10, 180, 10), box(-180, -10, -170, 10)])
    part = check(tmp_path, data, ends)
    assert part.plan.window.width == 1200
    assert part.tile_bytes < len(data) / 10


def test_a_raster_around_the_pole_is_clipped(tmp_path: Path) -> None:
    polar = CRS.from_epsg(3031)
    where = from_origin(-3_000_000, 2_500_000, 5_000, 5_000)
    data = raster(tmp_path, crs=polar, transform=where, compress="deflate", cog=False)
    part = check(tmp_path, data, box(30, -85, 60, -80))
    assert part.tile_bytes < len(data) / 3
    around = part_of(data, box(-180, -90, 180, -88))
    assert around.plan.window == (512, 384, 256, 256)


def test_tiles_that_share_their_bytes_still_share_them(tmp_path: Path) -> None:
    data = raster(tmp_path, cog=False, dtype="uint8")
    whole, _ = tiles_of(data)
    image = whole.images[0]
    shared = bytearray(data)
    at = data.index(image.offsets.astype("<u4").tobytes())
    same = np.full(len(image.offsets), image.offsets[0], dtype="<u4").tobytes()
    shared[at : at + len(same)] = same
    area = degrees(UTM, INSIDE)
    part = part_of(bytes(shared), area)
    assert compare(tmp_path, bytes(shared), part, area) > 0
    assert part.tile_bytes == 128 * 128


CANNOT: dict[str, tuple[dict[str, Any], str]] = {
    "strips": ({"cog": False, "tiled": False}, "it has strips, not tiles"),
    "no reference system": ({"cog": False, "crs": None}, "its reference system has no EPSG code"),
    "a reference system of its own": (
        {"cog": False, "crs": CRS.from_proj4("+proj=sinu +lon_0=0 +R=6371007.181 +units=m")},
        "its reference system has no EPSG code",
    ),
}


@pytest.mark.parametrize("kind", CANNOT)
def test_the_message_says_why_a_file_cannot_be_clipped(tmp_path: Path, kind: str) -> None:
    how, why = CANNOT[kind]
    data = raster(tmp_path, **how)
    with pytest.raises(TiffError, match=why):
        clip(tiles_of(data)[0], ClipArea(box(9, 45, 11, 47), 1))
