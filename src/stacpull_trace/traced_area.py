"""The area of a trace and its grid of pixels.

All requests of a run use one grid: the box of the area in longitude and latitude, divided into pixels by the
resolution. A part of the area is requested as a window of that grid, with a geometry as mask if the window is
larger than the part. A pixel belongs to the part that contains its centre, so counts of parts can be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import shapely
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from stacpull import arguments
from stacpull.arguments import Geometry
from stacpull.errors import MissingExtraError, UsageError
from stacpull.filters.shapes import read_area
from stacpull.models import Json
from stacpull_trace.hub.statistics_request import MAX_PIXELS, Size

if TYPE_CHECKING:
    from pyproj import Transformer

_NORTH_ZONES, _SOUTH_ZONES = 32600, 32700
_ZONES = 60
_ZONE_WIDTH = 6.0
_SVALBARD = ((0.0, 9.0, 31), (9.0, 21.0, 33), (21.0, 33.0, 35), (33.0, 42.0, 37))
_MAX_EDGE: Final = 500.0
"""Metres. A straight edge in UTM is a curve in degrees; divided into such steps, its error is millimetres."""


def utm_zone(longitude: float, latitude: float) -> int:
    """Return the EPSG code of the zone of a point in degrees: 32601 to 32660 north, 32701 to 32760 south."""
    base = _NORTH_ZONES if latitude >= 0 else _SOUTH_ZONES
    longitude = (longitude + 180) % 360 - 180
    if 56 <= latitude < 64 and 3 <= longitude < 12:  # noqa: PLR2004 - off Norway zone 32 is wider
        return base + 32
    if 72 <= latitude <= 84:  # noqa: PLR2004 - around Svalbard there are four zones instead of seven
        for west, east, zone in _SVALBARD:
            if west <= longitude < east:
                return base + zone
    return base + int((longitude + 180) // _ZONE_WIDTH) + 1


def is_utm(epsg: int) -> bool:
    """Return True if `epsg` is a UTM zone of WGS 84."""
    return _NORTH_ZONES < epsg <= _NORTH_ZONES + _ZONES or _SOUTH_ZONES < epsg <= _SOUTH_ZONES + _ZONES


def project(longitude: float, latitude: float, epsg: int) -> tuple[float, float]:
    """Return easting and northing in metres of a point in degrees, in the UTM zone `epsg`."""
    if not is_utm(epsg):
        raise ValueError(f"EPSG:{epsg} is not a UTM zone on WGS 84")
    east, north = _from_degrees(epsg).transform(longitude, latitude)
    return east, north


def to_degrees(geometry: BaseGeometry, epsg: int, near: float) -> BaseGeometry:
    """Convert a geometry of eastings and northings (metres) to longitude and latitude, with curved edges.

    Longitudes are within 180 degrees of `near`, so that a tile across the antimeridian is one polygon.
    """
    inverse = _from_degrees(epsg)

    def degrees(x: object, y: object) -> tuple[object, object]:
        longitude, latitude = inverse.transform(x, y, direction="INVERSE")
        return longitude - 360 * np.round((longitude - near) / 360), latitude

    moved: BaseGeometry = shapely.transform(
        shapely.segmentize(geometry, _MAX_EDGE), degrees, interleaved=False
    )
    return moved


@lru_cache
def _from_degrees(epsg: int) -> Transformer:
    try:
        from pyproj import Transformer  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise MissingExtraError("trace", "pyproj", "geoparquet,plot,trace") from error
    return Transformer.from_crs(4326, epsg, always_xy=True)


def bbox_size(bbox: tuple[float, float, float, float], resolution: float) -> Size:
    """Return the size of a box of longitudes and latitudes at `resolution` metres per pixel.

    As in `bbox_to_dimensions` of sentinelhub-py 3.12, the south-west and north-east corners are projected to
    the UTM zone of the box's centre, and their differences are rounded to pixels. A side of less than half a
    pixel gives 0.
    """
    if not resolution > 0:
        raise UsageError(f"the resolution must be greater than 0 metres, not {resolution}")
    west, south, east, north = bbox
    zone = utm_zone((west + east) / 2, (south + north) / 2)
    left, bottom = project(west, south, zone)
    right, top = project(east, north, zone)
    return Size(round(abs(right - left) / resolution), round(abs(top - bottom) / resolution))


DegreeBox = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""

_WEST, _SOUTH, _EAST, _NORTH = -180.0, -90.0, 180.0, 90.0
_WIDEST = 90.0
"""Degrees of longitude. Beyond that, corners projected to one UTM zone say nothing about the size."""
_MAX_REQUESTS: Final = 100_000
"""The most requests of `MAX_PIXELS` by `MAX_PIXELS` that an area may need."""
_VALID: Final = "Valid Geometry"
_AREAL: Final = ("Polygon", "MultiPolygon")
_FEW_PIXELS: Final = 10
_METRES_PER_DEGREE: Final = 111_320
"""Along a meridian, and along the equator."""


class PixelWindow(NamedTuple):
    """A rectangle of a grid: columns from the west, rows from the north, without the ends."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


class PixelGrid(msgspec.Struct, frozen=True):
    """A box of degrees, divided into `width` by `height` pixels."""

    bbox: DegreeBox
    width: int
    height: int

    @property
    def whole(self) -> PixelWindow:
        return PixelWindow(0, 0, self.width, self.height)

    @property
    def pixel(self) -> tuple[float, float]:
        west, south, east, north = self.bbox
        return (east - west) / self.width, (north - south) / self.height

    def size_note(self, resolution: float) -> str | None:
        """Return a sentence about the true size of a pixel if a side differs by 10 % from `resolution`.

        Over a few pixels, this is only the rounding to whole pixels.
        """
        if max(self.width, self.height) < _FEW_PIXELS:
            return None
        from pyproj import Geod  # noqa: PLC0415 - an extra, and heavy

        west, south, east, north = self.bbox
        ellipsoid, latitude = Geod(ellps="WGS84"), (south + north) / 2
        width = ellipsoid.inv(west, latitude, east, latitude)[2] / self.width
        height = ellipsoid.inv(west, south, west, north)[2] / self.height
        if max(abs(width - resolution), abs(height - resolution)) <= resolution / 10:
            return None
        return (
            f"A pixel is {width:.1f} m wide and {height:.1f} m high, not {resolution:g} m: the number of "
            "pixels is that of sentinelhub-py (`bbox_to_dimensions`), which is wrong for long and narrow "
            "areas. Trace the area in shorter parts."
        )

    def box(self, window: PixelWindow) -> DegreeBox:
        west, south, east, north = self.bbox
        across, down = self.pixel
        return (
            west + window.left * across,
            south if window.bottom == self.height else north - window.bottom * down,
            east if window.right == self.width else west + window.right * across,
            north - window.top * down,
        )

    def around(self, bounds: DegreeBox) -> PixelWindow:
        """Return the smallest window that contains the part of `bounds` inside the grid."""
        west, south, east, north = bounds
        across, down = self.pixel
        left = math.floor((west - self.bbox[0]) / across)
        right = math.ceil((east - self.bbox[0]) / across)
        top = math.floor((self.bbox[3] - north) / down)
        bottom = math.ceil((self.bbox[3] - south) / down)
        return PixelWindow(max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height))

    def count_pixels(self, window: PixelWindow, outline: BaseGeometry | None) -> int:
        """Return the number of the window's pixels whose centre is in the outline. Takes 20 µs per row.

        Without an outline, they are all of its pixels.
        """
        if outline is None:
            return window.width * window.height
        rings = [shapely.get_coordinates(r) for r in shapely.get_rings(shapely.get_parts(outline))]
        x1, y1 = np.concatenate([ring[:-1] for ring in rings]).T
        x2, y2 = np.concatenate([ring[1:] for ring in rings]).T
        across, down = self.pixel
        pixels = 0
        for row in range(window.top, window.bottom):
            y = self.bbox[3] - (row + 0.5) * down
            crossed = (y1 <= y) != (y2 <= y)
            left, low = x1[crossed], y1[crossed]
            x = np.sort(left + (y - low) / (y2[crossed] - low) * (x2[crossed] - left))
            columns = np.clip(np.ceil((x - self.bbox[0]) / across - 0.5), window.left, window.right)
            pixels += int((columns[1::2] - columns[::2]).sum())  # between every other pair of edges: inside
        return pixels

    def blocks(self, window: PixelWindow, max_side: int = MAX_PIXELS) -> Iterator[PixelWindow]:
        """Divide a window into windows of nearly equal size, none with a side above `max_side` pixels."""
        for top, bottom in _stretches(window.top, window.bottom, max_side):
            for left, right in _stretches(window.left, window.right, max_side):
                yield PixelWindow(left, top, right, bottom)


def _stretches(start: int, stop: int, max_side: int) -> Iterator[tuple[int, int]]:
    parts = -(-(stop - start) // max_side)
    edges = [start + (stop - start) * part // parts for part in range(parts + 1)] if parts else []
    yield from pairwise(edges)


class TracedArea(msgspec.Struct, frozen=True):
    """The area of a trace: its outline in degrees and the grid around it."""

    outline: BaseGeometry
    grid: PixelGrid
    is_box: bool
    """True if the outline is the grid's own box, so that no mask is needed."""
    note: str | None = None
    """What was repaired in the given geometry."""

    @property
    def geometry(self) -> Json:
        return dict(mapping(self.outline))

    def count_pixels(self) -> int:
        return self.grid.count_pixels(self.grid.whole, None if self.is_box else self.outline)


def area_of_bbox(bbox: tuple[float, ...], resolution: float) -> TracedArea:
    if len(bbox) != 4 or not all(map(math.isfinite, bbox)):  # noqa: PLR2004 - the four sides
        raise UsageError("--bbox needs four numbers W,S,E,N in degrees.")
    west, south, east, north = bbox
    if west > east:
        raise UsageError(
            f"--bbox has W ({west:g}) above E ({east:g}): swap them. A box across the antimeridian is traced "
            "in two runs."
        )
    if not (_WEST <= west < east <= _EAST and _SOUTH <= south < north <= _NORTH):
        raise UsageError("--bbox must be W,S,E,N in degrees with W below E and S below N.")
    sides = (west, south, east, north)
    return TracedArea(box(*sides), _grid(sides, resolution), is_box=True)


def area_of_geometry(
    given: str | PathLike[str] | Mapping[str, Any] | Geometry, resolution: float
) -> TracedArea:
    """Return the area of a GeoJSON geometry, feature or feature collection, in longitude and latitude.

    A point is the pixel around it.
    """
    loaded = arguments.read_as("--geometry", arguments.load_area, given) if isinstance(given, str) else given
    text = arguments.read_as("--geometry", arguments.read_geometry, loaded)
    outline = shapely.union_all([read_area(text, "--geometry")])
    if outline.geom_type == "Point" and abs(outline.y) < _NORTH:
        half = resolution / 2 / _METRES_PER_DEGREE
        across = half / math.cos(math.radians(outline.y))
        x, y = outline.x, outline.y
        return area_of_bbox((x - across, y - half, x + across, y + half), resolution)
    if outline.geom_type not in _AREAL or outline.is_empty or outline.area <= 0:
        raise UsageError(f"--geometry must be polygons or a point; this is a {outline.geom_type}.")
    west, south, east, north = outline.bounds
    if not (_WEST <= west < east <= _EAST and _SOUTH <= south < north <= _NORTH):
        raise UsageError("--geometry must be in longitude and latitude, in degrees (RFC 7946).")
    sides = (west, south, east, north)
    is_box = outline.equals(box(*sides))
    area = TracedArea(outline, _grid(sides, resolution), is_box, _repair_note(text))
    if not area.count_pixels():
        raise UsageError(
            f"No pixel of {resolution:g} m has its centre in the area: give a finer --resolution."
        )
    return area


def _repair_note(geojson: str) -> str | None:
    try:
        reason = shapely.is_valid_reason(shapely.from_geojson(geojson))
    except shapely.GEOSException as error:
        _, is_argument, reason = str(error).partition("IllegalArgumentException: ")
        if not is_argument:  # GEOS does not read features without a geometry
            return None
    return None if reason == _VALID else f"--geometry was not valid and is repaired: {reason}."


def _grid(bbox: DegreeBox, resolution: float) -> PixelGrid:
    if not (math.isfinite(resolution) and resolution > 0):
        raise UsageError(f"--resolution must be metres per pixel, above 0, not {resolution:g}.")
    if bbox[2] - bbox[0] > _WIDEST:
        raise UsageError(
            f"The area reaches over more than {_WIDEST:g} degrees of longitude: trace it in parts, and one "
            "across the antimeridian in two."
        )
    width, height = bbox_size(bbox, resolution)
    if width < 1 or height < 1:
        raise UsageError(
            f"The area is smaller than a pixel of {resolution:g} m: give a finer --resolution, or a point as "
            "--geometry."
        )
    if width * height > _MAX_REQUESTS * MAX_PIXELS**2:
        raise UsageError(
            f"The area has {width:,} by {height:,} pixels of {resolution:g} m: trace it in parts, or give a "
            "coarser --resolution."
        )
    return PixelGrid(bbox, width, height)
