"""The pixels of a request: its bounds, its size, and which pixels of the tiles its samples fall on.

The bounds are a box or a geometry in any known CRS. Their box is cut into width by height samples, each at
the middle of its cell; a sample takes the pixel it falls on (NEAREST). Samples outside of the geometry have
no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.sentinelhub.captures import Places
from stacpull_replicas.sentinelhub.projection import epsg_of, to_utm
from stacpull_replicas.sentinelhub.refusals import bad_payload
from stacpull_replicas.sentinelhub.squares import EPSG, METRES, NORTH, WEST

MOST = 2500
"""Greatest width and height of a request."""
_DEFAULT_SIDE = 256
_AT_ONCE = 1 << 18
_OUTLINE_POINTS = 64
_FAR = 1e6


@dataclass(frozen=True)
class Bounds:
    """Where statistics are asked for: a box (west, south, east, north) in a CRS, and the geometry, if any."""

    box: tuple[float, float, float, float]
    crs: int
    geometry: BaseGeometry | None

    @classmethod
    def read(cls, given: Any) -> Bounds:
        """Read `input.bounds`. Raises Refusal."""
        if not isinstance(given, Mapping) or not (given.get("bbox") or given.get("geometry")):
            raise bad_payload("Either bbox or geometry must be set.", "input->bounds")
        name = (given.get("properties") or {}).get("crs", "OGC:CRS84")
        crs = epsg_of(str(name))
        if crs is None:
            raise bad_payload(f"Unknown or unsupported CRS: {name}", "input->bounds->properties->crs")
        geometry = (
            geometry_of(given["geometry"], "input->bounds->geometry") if given.get("geometry") else None
        )
        box = given.get("bbox") or geometry.bounds  # type: ignore[union-attr]
        return cls(box_of(box, "input->bounds->bbox"), crs, geometry)

    def outline(self) -> BaseGeometry:
        """Box or geometry in metres of the tiles' zone, its edges bent as they are."""
        area = self.geometry if self.geometry is not None else shapely.box(*self.box)
        longest = max(self.box[2] - self.box[0], self.box[3] - self.box[1]) / _OUTLINE_POINTS
        points = shapely.segmentize(area, longest)

        def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(to_utm(xy[:, 0], xy[:, 1], self.crs, EPSG))

        bent: BaseGeometry = shapely.make_valid(shapely.transform(points, moved))
        return bent


def box_of(given: Any, place: str) -> tuple[float, float, float, float]:
    """Read four numbers as west, south, east, north. Raises Refusal."""
    try:
        west, south, east, north = map(float, given)
    except (TypeError, ValueError) as error:
        raise bad_payload("A bbox must be four numbers.", place) from error
    if not (np.isfinite([west, south, east, north]).all() and west < east and south < north):
        raise bad_payload("A bbox must be west, south, east, north.", place)
    return west, south, east, north


def geometry_of(given: Any, place: str) -> BaseGeometry:
    """Read a GeoJSON polygon or several. Raises Refusal."""
    try:
        geometry = shape(given)
        whole = not geometry.is_empty and np.isfinite(geometry.bounds).all()
    except (
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        shapely.errors.ShapelyError,
    ) as error:
        raise bad_payload("The geometry cannot be read.", place) from error
    if geometry.geom_type not in {"Polygon", "MultiPolygon"} or not whole:
        raise bad_payload("The geometry must be a Polygon or MultiPolygon.", place)
    return geometry


@dataclass(frozen=True)
class Stretch:
    """Some samples of a grid: column and row of each one's pixel in the tile grid, and whether it counts."""

    columns: Places
    rows: Places
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Bounds cut into `width` by `height` samples."""

    bounds: Bounds
    width: int
    height: int

    @classmethod
    def read(cls, bounds: Bounds, aggregation: Mapping[str, Any]) -> Grid:
        """Read width and height, or resx and resy in units of the CRS. Raises Refusal."""
        size = [aggregation.get(name) for name in ("width", "height")]
        resolution = [aggregation.get(name) for name in ("resx", "resy")]
        if any(part is not None for part in size) and any(part is not None for part in resolution):
            raise bad_payload(
                "Only width and height or resx and resy can be set at the same time.", "aggregation"
            )
        west, south, east, north = bounds.box
        if resolution[0] is not None or resolution[1] is not None:
            given = [part if part is not None else next(filter(None, resolution)) for part in resolution]
            sides = [
                _side(extent / _positive(step, f"aggregation->{name}"), name)
                for extent, step, name in zip(
                    (east - west, north - south), given, ("resx", "resy"), strict=True
                )
            ]
            return cls(bounds, sides[0], sides[1])
        sides = [
            _whole(part, name) if part is not None else _DEFAULT_SIDE
            for part, name in zip(size, ("width", "height"), strict=True)
        ]
        return cls(bounds, sides[0], sides[1])

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.width * self.height

    def stretches(self) -> Iterator[Stretch]:
        """All samples, from the north, a quarter of a million at a time."""
        west, south, east, north = self.bounds.box
        x = west + (np.arange(self.width) + 0.5) * ((east - west) / self.width)
        y = north - (np.arange(self.height) + 0.5) * ((north - south) / self.height)
        rows = max(1, _AT_ONCE // self.width)
        if self.bounds.geometry is not None:
            shapely.prepare(self.bounds.geometry)
        for first in range(0, self.height, rows):
            across, down = (part.ravel() for part in np.meshgrid(x, y[first : first + rows]))
            yield self._stretch(across, down)

    def _stretch(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Stretch:
        geometry = self.bounds.geometry
        inside = np.ones(len(x), bool) if geometry is None else shapely.contains_xy(geometry, x, y)
        easting, northing = to_utm(x, y, self.bounds.crs, EPSG)
        columns, rows = np.floor((easting - WEST) / METRES), np.floor((NORTH - northing) / METRES)
        far = ~((np.abs(columns) < _FAR) & (np.abs(rows) < _FAR))  # of NaN as well
        columns[far], rows[far] = -1, -1
        return Stretch(columns.astype(np.int32), rows.astype(np.int32), inside)


def _positive(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise bad_payload("A resolution must be a positive number.", place)
    return float(value)


def _side(cells: float, name: str) -> int:
    side, which = max(1, round(cells)), {"resx": "width", "resy": "height"}[name]
    if side > MOST:
        message = f"`{which} = {side}`, calculated from {name}, is larger than allowed {MOST}."
        raise bad_payload(message, f"aggregation->{name}")
    return side


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
        raise bad_payload(f"`{name}` must be a whole number from 1 to {MOST}.", f"aggregation->{name}")
    return value
