"""The checked input of a trace: collection, area, period of UTC days, index and method."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import shapely

from stacpull.errors import UsageError
from stacpull.models import Json
from stacpull_trace.hub.statistics_request import MAX_PIXELS, Size, StatisticsRequest
from stacpull_trace.indices import DEFAULT, EDGES, SCENES, Index
from stacpull_trace.request_plan import Days, PlannedRequest
from stacpull_trace.traced_area import TracedArea

Method = Literal["mode", "median"]
_FORMAT = 2
"""Version of the stored answers and their keys. Increase it when their format changes."""


class TraceQuestion(msgspec.Struct, frozen=True):
    """The checked arguments of a trace: collection, area, period, and the index to compute."""

    collection: str
    """Without `byoc-`."""
    area: TracedArea
    period: Days
    resolution: float
    """Metres per pixel."""
    index: Index
    method: Method
    base_url: str
    notes: tuple[str, ...] = ()
    """Messages about arguments that were changed or not understood."""

    def to_json(self) -> dict[str, Any]:
        return {**self.identity(), "period": str(self.period), "index": self.index.name}

    def identity(self) -> dict[str, Any]:
        """Return everything that stored results depend on, except the period: each key contains its day."""
        grid = self.area.grid
        return {
            "format": _FORMAT,
            "collection": self.collection,
            "bbox": list(grid.bbox),
            "geometry": None
            if self.area.is_box
            else shapely.to_wkt(self.area.outline, rounding_precision=-1),
            "resolution": self.resolution,
            "evalscript": self.index.digest,
            "method": self.method,
            "base_url": self.base_url,
        }

    def request(self, planned: PlannedRequest) -> StatisticsRequest:
        if self.method == "median":
            of_scenes: Json = {"statistics": {"default": {"percentiles": {"k": [50.0]}}}}
        else:
            of_scenes = {"histograms": {"default": {"bins": list(EDGES)}}}
        return StatisticsRequest(
            collection=f"byoc-{self.collection}",
            bbox=self.area.grid.box(planned.window),
            interval=planned.days.interval,
            evalscript=self.index.evalscript,
            grid=Size(planned.window.width, planned.window.height),
            geometry=planned.geometry,
            calculations={SCENES: of_scenes, DEFAULT: {}},
        )


def question(
    collection: str,
    area: TracedArea,
    period: Days,
    index: Index,
    *,
    resolution: float,
    method: Method,
    base_url: str,
    notes: tuple[str, ...] = (),
) -> TraceQuestion:
    bare = str(collection).strip().removeprefix("byoc-")
    if not bare or "/" in bare:
        raise UsageError(f"COLLECTION must be the id of your own collection, not {collection!r}.")
    grid = area.grid
    if method == "median" and max(grid.width, grid.height) > MAX_PIXELS:
        raise UsageError(
            f"The area is {grid.width:,} by {grid.height:,} pixels; a median cannot be combined from parts, "
            f"and the service accepts {MAX_PIXELS:,} per side: use --method mode."
        )
    return TraceQuestion(bare, area, period, resolution, index, method, base_url, notes)
