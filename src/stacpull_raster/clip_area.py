"""The area of `--clip` in the pixels of a raster. Imported when needed: shapely and pyproj are heavy.

The area is in longitude and latitude (WGS 84). It is first cut to the surroundings of the raster, because
most reference systems are of use only near the place they are made for. Then its edges get points in between,
because a straight line in one system is a curve in another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.geometry import box

from stacpull.errors import UsageError
from stacpull.filters.shapes import box_shape, read_area
from stacpull_raster.tiff.header import Bounds, Header, Transform
from stacpull_raster.tiff.segments import TiffError

Points = npt.NDArray[np.float64]

_WGS84 = 4326
_TURN, _EDGE, _POLE = 360.0, 180.0, 90.0
_STEPS = 1024
"""Points that an edge as long as the raster gets: the curve leaves its chord by less than a pixel."""
_BORDER_POINTS = 21
"""Points along each side of a raster, to find out which degrees it spans."""
SLACK = 1e-3
"""Parts of a pixel that are rounding and no overlap."""
_MARGIN = 0.01
"""Surroundings of a raster, as a part of the degrees that it spans."""


def clip_geometry(text: str) -> shapely.Geometry:
    """Return the area of `Selection.clip` as polygons within -180 to 180 degrees."""
    if text.lstrip().startswith(("{", "[")):
        area = read_area(text, "--clip")
    else:
        area = box_shape([float(side) for side in text.split(",")])
    turned = shapely.union_all([translate(area, xoff=turn) for turn in (-_TURN, 0.0, _TURN)])
    inside = shapely.intersection(turned, box(-_EDGE, -_EDGE, _EDGE, _EDGE))
    polygons = [part for part in shapely.get_parts(inside) if part.area > 0]
    if not polygons:
        raise UsageError("--clip has no area: use a box with width and height, or polygons.")
    return shapely.union_all(polygons)


class ClipArea:
    def __init__(self, geometry: shapely.Geometry, area_hash: int) -> None:
        self.hash = area_hash
        self._geometry = geometry

    def pixels(self, header: Header) -> shapely.Geometry | None:
        """Return the part of the area that is in a raster, in its pixels: (column, row) from the top left."""
        transform, bounds, epsg = header.transform, header.bounds, header.epsg
        if transform is None or bounds is None:
            raise TiffError(
                "it has no georeference" if not header.gcps else "it has ground control points only"
            )
        if epsg is None or header.crs_kind not in {"projected", "geographic"}:
            raise TiffError("its reference system has no EPSG code")
        to_pixels = _to_pixels(transform)
        area = self._in_crs(epsg, bounds)
        if area.is_empty:
            return None
        area = shapely.transform(area, to_pixels)
        # without what reaches in by a rounding error, as areas beside the raster may
        raster = box(SLACK, SLACK, header.width - SLACK, header.height - SLACK)
        inside = shapely.intersection(_valid(area), raster)
        parts = shapely.get_parts(shapely.get_parts(inside))  # of collections, and of polygons in them
        parts = parts[shapely.area(parts) > 0]
        return shapely.union_all(parts) if len(parts) else None

    def _in_crs(self, epsg: int, bounds: Bounds) -> shapely.Geometry:
        try:
            crs = _crs(epsg)
            area = shapely.intersection(self._geometry, _surroundings(epsg, bounds))
            if area.is_empty:
                return area
            west, south, east, north = area.bounds
            area = shapely.segmentize(area, max(east - west, north - south) / _STEPS)
            if epsg != _WGS84:
                area = shapely.transform(
                    area, lambda points: np.column_stack(_transformer(epsg).transform(*points.T))
                )
        except (ProjError, shapely.errors.ShapelyError) as error:
            raise TiffError(f"EPSG:{epsg} cannot be used: {' '.join(str(error).split())[:200]}") from error
        if not np.isfinite(shapely.get_coordinates(area)).all():
            raise TiffError(f"the area cannot be expressed in EPSG:{epsg}")
        if crs.is_geographic:  # its longitudes may be from 0 to 360, or pass 180
            turns = (translate(area, xoff=turn) for turn in (-_TURN, 0.0, _TURN))
            area = shapely.union_all([_valid(turned) for turned in turns])
        return area


@lru_cache(maxsize=64)
def _crs(epsg: int) -> CRS:
    return CRS.from_epsg(epsg)


@lru_cache(maxsize=64)
def _transformer(epsg: int) -> Transformer:
    return Transformer.from_crs(_WGS84, _crs(epsg), always_xy=True)


def _surroundings(epsg: int, bounds: Bounds) -> shapely.Geometry:
    west, south, east, north = min(bounds[::2]), min(bounds[1::2]), max(bounds[::2]), max(bounds[1::2])
    if epsg != _WGS84:
        spanned = _transformer(epsg).transform_bounds(
            west, south, east, north, densify_pts=_BORDER_POINTS, direction="INVERSE"
        )
        if not np.isfinite(spanned).all():
            raise TiffError(f"the raster is outside of what EPSG:{epsg} is made for")
        west, south, east, north = spanned
    if east < west:  # pyproj returns such a box where it crosses the antimeridian
        east += _TURN
    across, along = (east - west) * _MARGIN, (north - south) * _MARGIN
    south, north = max(-_POLE, south - along), min(_POLE, north + along)
    west, east = west - across, east + across
    if east - west >= _TURN:
        return box(-_EDGE, south, _EDGE, north)
    turned = ((max(-_EDGE, west + turn), min(_EDGE, east + turn)) for turn in (-_TURN, 0.0, _TURN))
    return shapely.union_all([box(start, south, end, north) for start, end in turned if start < end])


def _to_pixels(transform: Transform) -> Any:
    a, b, c, d, e, f = transform
    determinant = a * e - b * d
    if not determinant or not np.isfinite(determinant):
        raise TiffError("its georeference maps all pixels to one line")

    def inverse(points: Points) -> Points:
        x, y = points[:, 0] - c, points[:, 1] - f
        return np.column_stack(((e * x - b * y) / determinant, (a * y - d * x) / determinant))

    return inverse


def _valid(geometry: shapely.Geometry) -> shapely.Geometry:
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def tiles_hit(
    area: shapely.Geometry, tile: tuple[float, float], columns: range, rows: range
) -> npt.NDArray[np.bool_]:
    width, height = tile
    left = np.asarray(columns) * width
    hits = np.empty((len(rows), len(columns)), dtype=np.bool_)
    for at, row in enumerate(rows):
        boxes = shapely.box(
            left + SLACK, row * height + SLACK, left + width - SLACK, (row + 1) * height - SLACK
        )
        hits[at] = shapely.intersects(area, boxes)
    return cast("npt.NDArray[np.bool_]", hits)
