"""How many pixels a box is: the figures that Sentinel Hub's own Python package computes. Pure."""

from __future__ import annotations

from stacpull.errors import UsageError
from stacpull_trace.hub.request import Size
from stacpull_trace.utm import project, utm_zone

__all__ = ["bbox_size"]


def bbox_size(bbox: tuple[float, float, float, float], resolution: float) -> Size:
    """Return the pixels of a box of longitudes and latitudes at `resolution` metres a pixel.

    As `bbox_to_dimensions` of sentinelhub-py 3.12: south-west and north-east corner are projected to the UTM
    zone of the box's middle, and the rounded differences are the size. A side of less than half a pixel
    gives 0.

    Raises:
        UsageError: The resolution is not greater than 0.
    """
    if not resolution > 0:
        raise UsageError(f"the resolution must be greater than 0 metres, not {resolution}")
    west, south, east, north = bbox
    zone = utm_zone((west + east) / 2, (south + north) / 2)
    left, bottom = project(west, south, zone)
    right, top = project(east, north, zone)
    return Size(round(abs(right - left) / resolution), round(abs(top - bottom) / resolution))
