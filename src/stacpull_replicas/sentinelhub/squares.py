"""The grid of tiles: squares of 24 km in UTM zone 10 north, 8000 pixels of 3 m a side, around San Francisco.

Pixels are counted over the whole grid as well: column C to the east, row R to the south, both from the grid's
own upper left corner, so that neighbouring tiles fit together.
"""

from __future__ import annotations

from dataclasses import dataclass

EPSG = 32610
SIDE = 8000
"""Pixels along the side of a tile."""
METRES = 3
"""Side of a pixel."""
CELL, CLOUD_CELL = 8, 16
"""Pixels along the side of a cell in which land, and in which clouds are drawn."""
EXTENT = SIDE * METRES
"""Side of a tile in metres."""
FIRST_COLUMN, FIRST_ROW = 21, 173
LAST_COLUMN, LAST_ROW = 23, 175
ORIGIN_EAST = 12_000
"""Where column 0 begins: made up, so that one tile covers the notebook's boxes."""
WEST = ORIGIN_EAST + FIRST_COLUMN * EXTENT
NORTH = (LAST_ROW + 1) * EXTENT
"""Upper left corner of the whole grid in metres."""


@dataclass(frozen=True, order=True)
class Square:
    """One square of the grid by its column and row, both counted in 24 km from the grid's origin."""

    column: int
    row: int

    @property
    def name(self) -> str:
        """As `22E-174N`."""
        return f"{self.column:02d}E-{self.row:03d}N"

    @property
    def corner(self) -> tuple[int, int]:
        """Pixel column and row, within the whole grid, of the upper left pixel."""
        return (self.column - FIRST_COLUMN) * SIDE, (LAST_ROW - self.row) * SIDE

    @property
    def upper_left(self) -> tuple[int, int]:
        """Easting and northing of the upper left corner in metres."""
        column, row = self.corner
        return WEST + column * METRES, NORTH - row * METRES

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """West, south, east and north in metres."""
        west, north = self.upper_left
        return west, north - EXTENT, west + EXTENT, north


ALL = tuple(
    Square(column, row)
    for row in range(FIRST_ROW, LAST_ROW + 1)
    for column in range(FIRST_COLUMN, LAST_COLUMN + 1)
)
"""Every square of the collection."""
