"""The expected statistics, computed with rasterio and numpy from the served files, without replica code."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.transform import rowcol
from rasterio.warp import transform
from tests.replicas.sentinelhub.conftest import ServiceClient

FILES = {
    "analysis_ready_ps_sr": ("blue", "green", "red", "nir"),
    "analysis_ready_ps_qa": ("cloud_mask", "scene_mask"),
}
MASK = "dataMask"


class Remote(io.RawIOBase):
    """A file of a tile, read with range requests and cached."""

    def __init__(self, service: ServiceClient, tile: str, name: str) -> None:
        self.service, self.path = service, (tile, f"/files/{name}")
        head = service.tile(*self.path, method="HEAD")
        assert head.status_code == 200
        self.size, self.place = int(head.headers["Content-Length"]), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, count: int = -1) -> bytes:
        stop = self.size if count < 0 else min(self.size, self.place + count)
        if stop <= self.place:
            return b""
        reply = self.service.tile(*self.path, Range=f"bytes={self.place}-{stop - 1}")
        assert reply.status_code == 206
        self.place += len(reply.content)
        return reply.content


def opened(service: ServiceClient, tile: str, name: str) -> Any:
    """Open a file of a tile with rasterio, which reads only the ranges it needs."""

    def opener(path: str, mode: str = "rb") -> Remote:
        if path.rpartition("/")[2] != name or mode != "rb":
            raise FileNotFoundError(path)  # GDAL looks for sidecar files
        return Remote(service, tile, name)

    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        return rasterio.open(name, opener=opener)


def bands_of(service: ServiceClient, tile: str, points: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Open the files of a tile, with the names of their bands; none if the tile has none of the points."""
    info = service.tile(tile).json()["data"]
    assert info["tileGeometry"]["crs"]["properties"]["name"].endswith("EPSG::32610")
    outline = shapely.geometry.shape(info["tileGeometry"])
    if not shapely.contains_xy(outline, *points).any():
        return
    path = info["path"].rpartition("/")[2]
    for name, bands in FILES.items():
        with opened(service, tile, path.replace("(BAND)", name)) as dataset:
            yield bands, dataset


def sampled(
    service: ServiceClient, tiles: list[str], x: np.ndarray, y: np.ndarray, crs: str
) -> dict[str, np.ndarray]:
    """Return all bands at some points, from the first tile with data there; 0 without data."""
    found = {band: np.zeros(len(x), np.int16) for bands in FILES.values() for band in bands}
    found[MASK] = np.zeros(len(x), np.int16)
    for tile in tiles:
        pixels: dict[str, np.ndarray] = {}
        for bands, dataset in bands_of(service, tile, transform(crs, "EPSG:32610", x, y)):
            easting, northing = transform(crs, dataset.crs, x, y)
            rows, columns = (np.asarray(part) for part in rowcol(dataset.transform, easting, northing))
            within = (rows >= 0) & (rows < dataset.height) & (columns >= 0) & (columns < dataset.width)
            top, left = rows[within].min(), columns[within].min()
            window = ((top, rows[within].max() + 1), (left, columns[within].max() + 1))
            assert dataset.nodata == -999
            read = dataset.read(window=window)
            for band, raster in zip(bands, read, strict=True):
                pixels[band] = np.full(len(x), -999, np.int16)
                pixels[band][within] = raster[rows[within] - top, columns[within] - left]
        if pixels:
            fresh = (found[MASK] == 0) & (pixels["green"] != -999)
            found[MASK][fresh] = 1
            for band, values in pixels.items():
                found[band][fresh] = values[fresh]
    return found


def grid(box: list[float], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of the cells of a box, row by row from the north-west."""
    west, south, east, north = box
    x = np.linspace(west, east, 2 * width + 1)[1::2]
    y = np.linspace(north, south, 2 * height + 1)[1::2]
    return tuple(part.ravel() for part in np.meshgrid(x, y))


def inside(geometry: dict[str, Any] | None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if geometry is None:
        return np.ones(len(x), bool)
    return shapely.contains_xy(shapely.geometry.shape(geometry), x, y)


def check_stats(stats: dict[str, Any], values: np.ndarray, samples: int) -> None:
    """Check the statistics of a band against its valid values."""
    assert stats["sampleCount"] == samples
    assert stats["noDataCount"] == samples - len(values)
    if not len(values):
        assert {stats[name] for name in ("min", "max", "mean", "stDev")} == {"NaN"}
        return
    assert stats["min"] == values.min()
    assert stats["max"] == values.max()
    np.testing.assert_allclose(stats["mean"], values.astype(np.float64).mean(), rtol=1e-12)
    np.testing.assert_allclose(stats["stDev"], values.astype(np.float64).std(), rtol=1e-9)
