"""`POST …/statistics`: runs an evalscript on the captures of each interval, and computes the statistics.

An interval is in the reply if one of its captures touches the area. If several do, the most recent one is on
top; at the same time, the one ingested last. Its pixels without data show the capture below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo
from stacpull_replicas.sentinelhub.captures import MASK, Archive, Capture, Pixels
from stacpull_replicas.sentinelhub.evalscript import Evaluated
from stacpull_replicas.sentinelhub.script_evaluation import ScriptFault
from stacpull_replicas.sentinelhub.sentinelhub_service import LEAST_UNITS, UNITS_HEADER, Refusal, not_found
from stacpull_replicas.sentinelhub.statistics_order import Order, SampleBlock, StatisticsInterval, read_order
from stacpull_replicas.sentinelhub.tile_grid import SIDE

_UNIT_PIXELS = 512 * 512
_UNIT_BANDS = 3


@dataclass(frozen=True)
class Statistics:
    """The statistics of collections, by id without `byoc-`. Intervals with a failing day are errors."""

    archives: Mapping[str, Archive]
    failing_days: frozenset[str]

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        if below:
            raise not_found(f"Resource {request.path}")
        if request.method != "POST":
            raise Refusal(405, "COMMON_METHOD_NOT_ALLOWED", f"Method {request.method} is not allowed.")
        order = read_order(request.body)
        archive = self.archives.get(order.collection)
        if archive is None:
            raise not_found(f"Collection byoc-{order.collection}")
        area = order.grid.bounds.outline()
        found = [
            (interval, archive.within(interval.start, interval.end, area)) for interval in order.intervals
        ]
        found = [(interval, captures) for interval, captures in found if captures]
        blocks = list(order.grid.blocks()) if found else []
        data = [self._interval(order, interval, captures, blocks) for interval, captures in found]
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            UNITS_HEADER: str(units(order.grid.samples, order.script.bands, len(found))),
        }
        body = orjson.dumps({"data": data, "status": _status(data)})
        return ReplicaReply(200, headers, body, kind="statistics", compressible=True)

    def _interval(
        self,
        order: Order,
        interval: StatisticsInterval,
        captures: list[Capture],
        blocks: Sequence[SampleBlock],
    ) -> dict[str, Any]:
        document: dict[str, Any] = {"interval": interval.document()}
        if any(str(capture.day) in self.failing_days for capture in captures):
            return document | {"error": _error("The data of this interval cannot be read.")}
        on_top = sorted(captures, key=lambda capture: (capture.sensed, capture.ingested), reverse=True)
        if order.oldest_on_top:
            on_top.reverse()
        try:
            parts = [order.script.evaluate(_samples(order, on_top, block)) for block in blocks]
        except ScriptFault as fault:
            return document | {"error": _error(f"Failed to evaluate script! {fault}")}
        return document | {"outputs": _outputs(order, blocks, parts)}


def _error(message: str) -> dict[str, str]:
    return {"type": "EXECUTION_ERROR", "message": message}


def _status(data: Sequence[Mapping[str, Any]]) -> str:
    failed = sum("error" in interval for interval in data)
    if failed and failed == len(data):
        return "FAILED"
    return "PARTIAL" if failed else "OK"


def units(samples: int, bands: Sequence[str], intervals: int) -> float:
    """Return the processing units: one per 512 by 512 samples of three bands and interval with data."""
    counted = len([band for band in bands if band != MASK])
    return max(LEAST_UNITS, samples / _UNIT_PIXELS * counted / _UNIT_BANDS * intervals)


def _samples(order: Order, captures: Sequence[Capture], block: SampleBlock) -> dict[str, Pixels]:
    """Return the bands that a script reads for a block of samples; 0 where there are no data."""
    count = len(block.columns)
    names = order.script.bands
    found: dict[str, Pixels] = {name: np.zeros(count, np.int16) for name in names}
    open_places = np.flatnonzero(block.inside)
    for capture in captures:
        if not len(open_places):
            break
        within, places = _on(capture, block, open_places)
        if not len(places):
            continue
        left, top = capture.square.corner
        pixels = capture.read({*names, MASK}, block.rows[places] - top, block.columns[places] - left)
        filled = pixels[MASK] != 0
        for name in names:
            found[name][places[filled]] = pixels[name][filled]
        within[within] = filled
        open_places = open_places[~within]
    return found


def _on(
    capture: Capture, block: SampleBlock, places: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return a mask of the samples on a capture's tile, and these samples."""
    left, top = capture.square.corner
    columns, rows = block.columns[places], block.rows[places]
    within = (columns >= left) & (columns < left + SIDE) & (rows >= top) & (rows < top + SIDE)
    return within, places[within]


def _outputs(order: Order, blocks: Sequence[SampleBlock], parts: Sequence[Evaluated]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    inside = np.concatenate([block.inside for block in blocks])
    for output in order.script.outputs:
        bands = {}
        for band in output.bands:
            key = output.id, band
            values = np.concatenate([part.values[key] for part in parts])
            valid = np.concatenate([part.valid[key] for part in parts])
            bands[band] = order.calculations[key].document(values, valid & inside)
        document[output.id] = {"bands": bands}
    return document
