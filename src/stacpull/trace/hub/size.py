"""How many pixels a box is: the figures that Sentinel Hub's own Python package computes. Pure."""

from __future__ import annotations

from stacpull.trace.hub.request import Size

__all__ = ["bbox_size"]


def bbox_size(bbox: tuple[float, float, float, float], resolution: float) -> Size:
    """Return the pixels of a box of longitudes and latitudes at `resolution` metres a pixel.

    As `bbox_to_dimensions` of sentinelhub-py: south-west and north-east corner are projected to the UTM zone
    of the box's middle, and the rounded differences are the size.
    """
    raise NotImplementedError
