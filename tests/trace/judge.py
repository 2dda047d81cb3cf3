"""The expected result of a trace, counted with numpy pixel by pixel from the rasters of the replica.

This shares only the grid with the client. Tiles are drawn over each other in the order of creation, PROJ
(through rasterio) projects the pixels, and the outline is the mask.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

import numpy as np
import shapely
from rasterio.warp import transform

from stacpull_replicas.sentinelhub.captures import Archive
from stacpull_trace.traced_area import TracedArea

METRES = 3


@dataclass(frozen=True)
class Judged:
    """Valid pixels by day, tile and scene value, and the NDWI by day: pixels, mean, min, max, deviation."""

    scenes: Counter[tuple[date, str, int]]
    ndwi: dict[date, tuple[int, float, float, float, float]]


def judge(archive: Archive, area: TracedArea, first: date, last: date) -> Judged:
    grid = area.grid
    across, down = grid.pixel
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    longitude = (grid.bbox[0] + columns * across).ravel()
    latitude = (grid.bbox[3] - rows * down).ravel()
    east, north = map(np.array, transform("EPSG:4326", "EPSG:32610", longitude, latitude))
    wanted = shapely.contains_xy(area.outline, longitude, latitude)
    scenes: Counter[tuple[date, str, int]] = Counter()
    ndwi = {}
    for day in sorted({c.day for c in archive.captures if first <= c.day <= last}):
        tile, pixels = _painted(archive, day, east, north)
        valid = wanted & (tile != "") & (pixels["cloud_mask"] == 1)
        for name in set(tile[valid]):
            counted = np.unique(pixels["scene_mask"][valid & (tile == name)], return_counts=True)
            for value, count in zip(*counted, strict=True):
                scenes[day, name, int(value)] += int(count)
        if valid.any():
            green, nir = (pixels[band][valid].astype(np.float64) for band in ("green", "nir"))
            index = ((green - nir) / (green + nir)).astype(np.float32).astype(np.float64)
            ndwi[day] = (index.size, index.mean(), index.min(), index.max(), index.std())
    return Judged(scenes, ndwi)


def _painted(
    archive: Archive, day: date, east: np.ndarray, north: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw the tiles of a day over each other, the newest on top."""
    bands = ("green", "nir", "cloud_mask", "scene_mask")
    tile = np.full(east.shape, "", dtype=object)
    pixels = {band: np.zeros(east.shape, dtype=np.int16) for band in bands}
    for capture in sorted((c for c in archive.captures if c.day == day), key=lambda c: c.ingested):
        west, south, far_east, far_north = capture.square.bounds
        inside = np.flatnonzero((east >= west) & (east < far_east) & (north <= far_north) & (north > south))
        rows = ((far_north - north[inside]) // METRES).astype(np.int32)
        columns = ((east[inside] - west) // METRES).astype(np.int32)
        found = capture.read((*bands, "dataMask"), rows, columns)
        seen = found["dataMask"] == 1
        tile[inside[seen]] = capture.id
        for band in bands:
            pixels[band][inside[seen]] = found[band][seen]
    return tile, pixels
