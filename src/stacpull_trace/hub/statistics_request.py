"""Statistics requests as values, and their JSON documents. Pure.

Field names are those of the service's API reference (Statistical API, POST /statistics).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal, NamedTuple

from stacpull.clock import rfc3339
from stacpull.errors import UsageError
from stacpull.models import Json
from stacpull_trace.hub.replies import TimeRange

MOST_PIXELS = 2500
"""The longest side of a grid that the service computes."""

_PREFIX = "byoc-"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGITUDE_LATITUDE = 4326


class Size(NamedTuple):
    """A grid, given as its number of pixels; each side has at most `MOST_PIXELS`."""

    width: int
    height: int


class Resolution(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """A box, a GeoJSON geometry, or both (the geometry is then a mask), in the CRS of `epsg`."""

    bbox: tuple[float, float, float, float] | None = None
    geometry: Json | None = None
    epsg: int = _LONGITUDE_LATITUDE

    def body(self) -> Json:
        if self.bbox is None and self.geometry is None:
            raise UsageError("statistics need an area: a bounding box or a geometry")
        if self.bbox is not None and not (self.bbox[0] < self.bbox[2] and self.bbox[1] < self.bbox[3]):
            raise UsageError(f"the box {self.bbox} has no area: write west, south, east, north")
        body: Json = {"properties": {"crs": _crs_uri(self.epsg)}}
        if self.bbox is not None:
            body["bbox"] = list(self.bbox)
        if self.geometry is not None:
            body["geometry"] = self.geometry
        return body


@dataclass(frozen=True, slots=True)
class Calculation:
    percentiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    """Edges of a histogram's bins, ascending: n edges give n - 1 bins; the last one includes both edges."""
    band: str = "default"

    def body(self) -> Json:
        body: Json = {}
        if self.percentiles:
            body["statistics"] = {self.band: {"percentiles": {"k": list(self.percentiles)}}}
        if self.edges:
            if len(self.edges) == 1 or any(low >= high for low, high in pairwise(self.edges)):
                raise UsageError("the edges of a histogram must be two or more, and ascend")
            body["histograms"] = {self.band: {"bins": list(self.edges)}}
        return body


def _most_recent() -> Mapping[str, object]:
    return {"mosaickingOrder": "mostRecent"}


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    collection: str
    """With or without `byoc-`."""
    bounds: RequestBounds
    interval: TimeRange
    evalscript: str
    grid: Size | Resolution
    step: str = "P1D"
    """ISO 8601 duration."""
    last_step: Literal["SKIP", "SHORTEN", "EXTEND"] = "SKIP"
    """How to handle an incomplete last step."""
    calculations: Mapping[str, Calculation] = field(default_factory=dict)
    """By output id."""
    resampling: Literal["NEAREST", "BILINEAR", "BICUBIC"] = "NEAREST"
    data_filter: Mapping[str, object] = field(default_factory=_most_recent)

    def body(self) -> Json:
        data = {
            "type": collection_type(self.collection),
            "dataFilter": dict(self.data_filter),
            "processing": {"upsampling": self.resampling, "downsampling": self.resampling},
        }
        aggregation = {
            "timeRange": {"from": written(self.interval.start), "to": written(self.interval.end)},
            "aggregationInterval": {"of": self.step, "lastIntervalBehavior": self.last_step},
            **_grid_body(self.grid),
            "evalscript": self.evalscript,
        }
        body: Json = {"input": {"bounds": self.bounds.body(), "data": [data]}, "aggregation": aggregation}
        if self.calculations:
            body["calculations"] = {output: one.body() for output, one in self.calculations.items()}
        return body


def collection_type(collection: str) -> str:
    """Return the name of a collection in searches and statistics: a bare UUID gets the prefix `byoc-`."""
    return _PREFIX + collection if _UUID.fullmatch(collection) else collection


def bare_collection(collection: str) -> str:
    """Return the id of a collection without `byoc-`."""
    return collection.removeprefix(_PREFIX)


def written(time: datetime) -> str:
    """Return a time as the services expect it: UTC, `2023-11-01T00:00:00Z`."""
    return rfc3339(time.astimezone(UTC))


def _grid_body(grid: Size | Resolution) -> Json:
    if isinstance(grid, Resolution):
        if not (grid.x > 0 and grid.y > 0):
            raise UsageError(f"a resolution must be greater than 0, not {grid.x} by {grid.y}")
        return {"resx": grid.x, "resy": grid.y}
    if not (0 < grid.width <= MOST_PIXELS and 0 < grid.height <= MOST_PIXELS):
        raise UsageError(
            f"an area of {grid.width} by {grid.height} pixels cannot be computed at once: "
            f"each side must have 1 to {MOST_PIXELS}. Choose a smaller area or a coarser resolution."
        )
    return {"width": grid.width, "height": grid.height}


def _crs_uri(epsg: int) -> str:
    """Return the URI of a CRS (OGC 09-048r5). 4326 has longitude first here, so it becomes CRS84."""
    if epsg == _LONGITUDE_LATITUDE:
        return "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
    return f"http://www.opengis.net/def/crs/EPSG/0/{epsg}"
