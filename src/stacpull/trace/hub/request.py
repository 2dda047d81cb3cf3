"""What is asked of the statistics service, as values, and the JSON document made of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stacpull.models import Json
from stacpull.trace.hub.values import Interval

__all__ = ["MOST_PIXELS", "Bounds", "Calculation", "Resolution", "Size", "StatisticsRequest"]

MOST_PIXELS = 2500
"""The longest side of a grid that the service computes."""


class Size(NamedTuple):
    """A grid by its pixels; each side at most `MOST_PIXELS`."""

    width: int
    height: int


class Resolution(NamedTuple):
    """A grid by the size of a pixel, in units of the bounds' CRS."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where: a box, a GeoJSON geometry, or both (then the geometry is a mask), in the CRS of `epsg`."""

    bbox: tuple[float, float, float, float] | None = None
    geometry: Json | None = None
    epsg: int = 4326


@dataclass(frozen=True, slots=True)
class Calculation:
    """What is computed of the bands of one output, beyond min, max, mean and standard deviation."""

    percentiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    """Edges of a histogram's bins, ascending: n edges give n - 1 bins, the last one closed."""
    band: str = "default"


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    """One request: statistics of an area, a figure for each step of a period."""

    collection: str
    """With or without `byoc-`."""
    bounds: Bounds
    interval: Interval
    evalscript: str
    grid: Size | Resolution
    step: str = "P1D"
    last_step: Literal["SKIP", "SHORTEN", "EXTEND"] = "SKIP"
    """What becomes of a last step that the period cuts."""
    calculations: Mapping[str, Calculation] = field(default_factory=dict)
    """By output id."""
    resampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    data_filter: Mapping[str, object] = field(default_factory=dict)

    def body(self) -> Json:
        """Return the JSON document to post.

        Raises:
            UsageError: A grid too large or empty, no bounds, edges that do not ascend.
        """
        raise NotImplementedError
