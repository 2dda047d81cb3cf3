"""UTM to degrees, compared with PROJ (through rasterio)."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from rasterio.warp import transform
from shapely.geometry import box

from stacpull_trace.utm_projection import is_utm, to_degrees

TILE = 24_000.0
MILLIMETRE = 1e-3 / 111_000


@pytest.mark.parametrize("epsg", [32610, 32601, 32660, 32733, 32755])
@pytest.mark.parametrize("west", [180_000.0, 500_000.0, 780_000.0])
@pytest.mark.parametrize("south", [24_000.0, 4_176_000.0, 8_000_000.0])
def test_positions_agree_with_proj_to_a_millimetre(epsg: int, west: float, south: float) -> None:
    tile = box(west, south, west + TILE, south + TILE)
    points = shapely.get_coordinates(to_degrees(tile, epsg))
    source = shapely.get_coordinates(shapely.segmentize(tile, 500))
    longitudes, latitudes = transform(f"EPSG:{epsg}", "EPSG:4326", source[:, 0], source[:, 1])
    assert np.abs(points[:, 1] - latitudes).max() < MILLIMETRE
    scale = np.cos(np.radians(np.array(latitudes))).clip(0.01)
    off = np.abs(np.mod(points[:, 0] - np.array(longitudes) + 180, 360) - 180) * scale
    assert off.max() < MILLIMETRE


def test_edges_of_a_bbox_are_curved() -> None:
    tile = to_degrees(box(700_000, 5_000_000, 700_000 + TILE, 5_000_000 + TILE), 32610)
    below = to_degrees(box(700_000, 5_000_000 - TILE, 700_000 + TILE, 5_000_000), 32610)
    straight = shapely.convex_hull(tile).area - tile.area
    assert straight > 0  # a northern edge bends south: the corners alone would miss pixels
    assert tile.intersection(below).area < 1e-12
    assert tile.union(below).area == pytest.approx(tile.area + below.area, rel=1e-12)


@pytest.mark.parametrize(
    ("epsg", "expected"),
    [
        (32601, True),
        (32660, True),
        (32701, True),
        (32760, True),
        (32600, False),
        (32661, False),
        (32700, False),
        (32761, False),
        (4326, False),
        (3857, False),
    ],
)
def test_known_zones(epsg: int, expected: bool) -> None:
    assert is_utm(epsg) is expected
