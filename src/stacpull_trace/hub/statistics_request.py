"""The request for statistics, with the field names of the API reference (POST /statistics). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from stacpull.clock import rfc3339
from stacpull.models import Json
from stacpull_trace.hub.replies import TimeRange

MAX_PIXELS = 2500
"""The longest side of a grid that the service computes."""

_PREFIX = "byoc-"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
"""Longitude first, unlike in EPSG 4326."""


class Size(NamedTuple):
    """A grid, given as its number of pixels; each side has at most `MAX_PIXELS`."""

    width: int
    height: int


class StatisticsRequest(msgspec.Struct, frozen=True):
    """A request for the statistics of each day of a period. The geometry is a mask in the box."""

    collection: str
    """With or without `byoc-`."""
    bbox: tuple[float, float, float, float]
    interval: TimeRange
    evalscript: str
    grid: Size
    geometry: Json | None = None
    calculations: Mapping[str, Json] = {}
    """By output id: what is computed beside min, max, mean and standard deviation."""

    def body(self) -> Json:
        bounds: Json = {"properties": {"crs": _CRS84}, "bbox": list(self.bbox)}
        if self.geometry is not None:
            bounds["geometry"] = self.geometry
        data = {
            "type": collection_type(self.collection),
            "dataFilter": {"mosaickingOrder": "mostRecent"},
            "processing": {"upsampling": "NEAREST", "downsampling": "NEAREST"},
        }
        aggregation = {
            "timeRange": {"from": written(self.interval.start), "to": written(self.interval.end)},
            "aggregationInterval": {"of": "P1D", "lastIntervalBehavior": "SKIP"},
            **self.grid._asdict(),
            "evalscript": self.evalscript,
        }
        return {
            "input": {"bounds": bounds, "data": [data]},
            "aggregation": aggregation,
            "calculations": dict(self.calculations),
        }


def collection_type(collection: str) -> str:
    """Return the name of a collection in searches and statistics: a bare UUID gets the prefix `byoc-`."""
    return _PREFIX + collection if _UUID.fullmatch(collection) else collection


def bare_collection(collection: str) -> str:
    return collection.removeprefix(_PREFIX)


def written(time: datetime) -> str:
    """Return a time as the services expect it: UTC, `2023-11-01T00:00:00Z`."""
    return rfc3339(time.astimezone(UTC))
