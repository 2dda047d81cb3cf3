"""Areas and tiles of whole pixels on a small grid, so that no pixel centre is on an edge."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import shapely
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from stacpull_trace.cover import Tile
from stacpull_trace.traced_area import PixelGrid, TracedArea

SIDE = 12
WEST, NORTH, PIXEL = 10.0, 50.0, 0.001
FIRST_DAY = date(2023, 11, 1)

Cells = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


def outline(*cells: Cells) -> BaseGeometry:
    def rectangle(left: int, top: int, right: int, bottom: int) -> BaseGeometry:
        west, east = WEST + left * PIXEL, WEST + right * PIXEL
        return box(west, NORTH - bottom * PIXEL, east, NORTH - top * PIXEL)

    return shapely.union_all([rectangle(*cell) for cell in cells])


def area(*cells: Cells) -> TracedArea:
    grid = PixelGrid((WEST, NORTH - SIDE * PIXEL, WEST + SIDE * PIXEL, NORTH), SIDE, SIDE)
    shape = outline(*cells) if cells else box(*grid.bbox)
    return TracedArea(shape, grid, is_box=not cells)


def tile(
    name: str,
    rectangle: Cells,
    *,
    cover: Cells | None = None,
    day: int = 0,
    hour: int = 0,
    created: int | None = 0,
) -> Tile:
    midnight = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
    made = None if created is None else midnight + timedelta(days=400, seconds=created)
    shape = outline(rectangle)
    return Tile(
        name,
        midnight + timedelta(days=day, hours=hour),
        made,
        shape,
        shape if cover is None else outline(cover),
    )


def holds(shape: BaseGeometry) -> np.ndarray:
    """Return which pixels of the grid have their centre in a shape, as rows from north to south."""
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    found: np.ndarray = shapely.contains_xy(shape, WEST + columns * PIXEL, NORTH - rows * PIXEL)
    return found
