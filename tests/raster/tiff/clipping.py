"""Rasters of every kind, clipped as a transfer would, and compared with the whole by rasterio."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window
from shapely.geometry import box, mapping, shape

from stacpull_raster.clip_area import ClipArea
from stacpull_raster.clipped_file import ClippedFile, TiledFile, clip, parse_tiles, pieces, read_note
from stacpull_raster.tiff import FIRST_READ, Needs, Segments

UTM = CRS.from_epsg(32632)
AREA = 0x1234
CHUNK = 5_000


def samples(count: int, height: int, width: int, dtype: str) -> Any:
    """Return an image that compresses as real ones do, no two tiles alike, zeros nowhere."""
    noise = np.random.default_rng(7).integers(-3, 4, (count, height, width), dtype=np.int8)
    values = np.abs(np.cumsum(noise, axis=2, dtype=np.int32)) % 199 + 1
    return values.astype(dtype)


def raster(
    path: Path,
    *,
    size: tuple[int, int] = (1200, 1000),
    count: int = 1,
    dtype: str = "uint16",
    transform: Any = None,
    crs: Any = UTM,
    tile: int = 128,
    overviews: tuple[int, ...] = (),
    mask: bool = False,
    cog: bool = True,
    holes: tuple[int, int, int, int] | None = None,
    tags: dict[str, str] | None = None,
    **profile: Any,
) -> bytes:
    """Write a raster and return its bytes; `holes` are columns and rows (from, to) that are never written."""
    width, height = size
    made = path / "made.tif"
    given = {
        "driver": "GTiff", "width": width, "height": height, "count": count, "dtype": dtype, "crs": crs,
        "transform": from_origin(600_000, 5_100_000, 10, 10) if transform is None else transform,
        "tiled": True, "blockxsize": tile, "blockysize": tile,
    }  # fmt: skip
    plain = {} if cog else profile
    sparse = {"SPARSE_OK": "TRUE"} if holes else {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(made, "w", **{**given, **plain, **sparse}) as file:
            values = samples(count, height, width, dtype)
            for top, left in itertools.product(range(0, height, tile), range(0, width, tile)):
                if holes and holes[0] <= left < holes[1] and holes[2] <= top < holes[3]:
                    continue
                window = Window(left, top, min(tile, width - left), min(tile, height - top))
                file.write(values[:, top : top + window.height, left : left + window.width], window=window)
            if mask:
                file.write_mask(np.where(values[0] % 5 == 0, 0, 255).astype("uint8"))
            file.update_tags(**(tags or {}))
        if not cog:
            if overviews:
                with rasterio.open(made, "r+") as file:
                    file.build_overviews(overviews, Resampling.nearest)
            return made.read_bytes()
        copy(made, path / "cog.tif", driver="COG", blocksize=tile, **sparse, **profile)
    return (path / "cog.tif").read_bytes()


class Part(NamedTuple):
    """A clipped file, and how it came about."""

    data: bytes
    plan: ClippedFile
    whole: TiledFile
    fetched: int
    """Bytes of tiles and of the gaps between them."""

    @property
    def tile_bytes(self) -> int:
        return self.plan.size - len(self.plan.head)


def tiles_of(data: bytes) -> tuple[TiledFile, int]:
    """Parse like a transfer, from the requested bytes; return it with the bytes that were read."""
    segments, wanted, read = Segments(), Needs(0, FIRST_READ), 0
    for _ in range(32):
        stop = min(wanted.stop, len(data))
        segments.total = len(data)
        segments.add(wanted.start, data[wanted.start : stop])
        read += stop - wanted.start
        found = parse_tiles(segments)
        if not isinstance(found, Needs):
            return found, read
        wanted = found
    raise AssertionError("the header is in more than 32 places")


def clipped(data: bytes, area: Any) -> Part | None:
    """Clip the bytes of a raster to an area in degrees; None if nothing of it is there."""
    whole, _ = tiles_of(data)
    plan = clip(whole, ClipArea(area, AREA))
    if plan is None:
        return None
    out, seen, fetched = bytearray(plan.size), bytearray(plan.size), 0
    out[: len(plan.head)], seen[: len(plan.head)] = plan.head, b"x" * len(plan.head)
    for read in reversed(plan.reads):  # in whatever order they come
        fetched += read.stop - read.start
        for at in range(read.start, read.stop, CHUNK):
            chunk = data[at : min(at + CHUNK, read.stop)]
            for place, piece in pieces(read, at, chunk):
                out[place : place + len(piece)] = piece
                seen[place : place + len(piece)] = b"x" * len(piece)
    assert bytes(seen) == b"x" * plan.size  # every byte came from somewhere
    note = read_note(bytes(out[:300]))
    assert note is not None
    assert (note.area_hash, note.source_size) == (AREA, len(data))
    return Part(bytes(out), plan, whole, fetched)


def degrees(crs: Any, bounds: tuple[float, float, float, float]) -> Any:
    """Return a box of degrees that contains the box `bounds` of a reference system."""
    return box(*transform_bounds(crs, CRS.from_epsg(4326), *bounds, densify_pts=41))


def in_pixels(area: Any, crs: Any, transform: Any) -> Any:
    """Return an area in the pixels of a raster, by GDAL's own way there."""
    fine = shapely.segmentize(area, max(area.bounds[2] - area.bounds[0], 1e-9) / 500)
    there = shape(transform_geom(CRS.from_epsg(4326), crs, mapping(fine)))
    inverse = np.linalg.inv(np.array(transform).reshape(3, 3))
    return shapely.transform(there, lambda p: (np.column_stack((p, np.ones(len(p)))) @ inverse.T)[:, :2])


def compare(tmp_path: Path, data: bytes, part: Part, area: Any) -> int:
    """Compare window by window what rasterio reads from both; return how many windows were in the area."""
    whole_path, part_path = tmp_path / "whole.tif", tmp_path / "part.tif"
    whole_path.write_bytes(data)
    part_path.write_bytes(part.data)
    compared = 0
    with rasterio.open(whole_path) as whole, rasterio.open(part_path) as clip:
        window = part.plan.window
        where = whole.window_transform(Window(*window))
        assert clip.transform.almost_equals(where, precision=1e-6 * abs(where.a or where.b))
        assert (clip.width, clip.height) == (window.width, window.height)
        assert clip.profile["dtype"] == whole.profile["dtype"]
        assert (clip.crs, clip.count, clip.nodata, clip.tags()) == (
            whole.crs, whole.count, whole.nodata, whole.tags(),
        )  # fmt: skip
        assert clip.profile.get("compress") == whole.profile.get("compress")
        assert clip.interleaving == whole.interleaving
        assert clip.mask_flag_enums == whole.mask_flag_enums
        assert clip.colorinterp == whole.colorinterp
        factors = clip.overviews(1)
        assert factors == whole.overviews(1)[: len(factors)]
        pixels = in_pixels(area, whole.crs, whole.transform)
    for level in range(-1, len(factors)):
        options = {} if level < 0 else {"overview_level": level}
        factor = 1 if level < 0 else factors[level]
        with rasterio.open(whole_path, **options) as whole, rasterio.open(part_path, **options) as clip:
            assert window.x % factor == window.y % factor == 0
            moved = window.x // factor, window.y // factor
            for _, block in clip.block_windows(1):
                left, top = block.col_off + moved[0], block.row_off + moved[1]
                right, bottom = left + block.width, top + block.height
                there = Window(left, top, block.width, block.height)
                is_in = box(left + 1, top + 1, right - 1, bottom - 1)
                if not shapely.intersects(shapely.transform(pixels, lambda p, f=factor: p / f), is_in):
                    continue
                compared += 1
                a, b = whole.read(window=there, masked=True), clip.read(window=block, masked=True)
                assert np.array_equal(a.data, b.data)
                assert np.array_equal(np.ma.getmaskarray(a), np.ma.getmaskarray(b))
                assert np.array_equal(whole.dataset_mask(window=there), clip.dataset_mask(window=block))
    return compared


INSIDE = (603_000.0, 5_093_500.0, 607_000.0, 5_097_500.0)
"""A part of the raster that `raster` makes, in its reference system."""
