"""`POST …/statistics`: an evalscript run over the captures of each interval, and what its outputs come to.

An interval is in the reply if a capture of it touches the area. Where several do, the most recent one is on
top, of the same time the one that was ingested last; below it shows what is under its pixels without data.
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
from stacpull_replicas.sentinelhub.script_syntax import ScriptFault
from stacpull_replicas.sentinelhub.sentinelhub_service import LEAST_UNITS, UNITS_HEADER, Refusal, not_found
from stacpull_replicas.sentinelhub.statistics_order import Order, SampleBlock, StatisticsInterval, read_order
from stacpull_replicas.sentinelhub.tile_grid import SIDE

_UNIT_PIXELS = 512 * 512
_UNIT_BANDS = 3


@dataclass(frozen=True)
class Statistics:
    """The statistics of some collections, by id without `byoc-`; intervals with a failing day are errors."""

    archives: Mapping[str, Archive]
    failing_days: frozenset[str]

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        """Answer a request. Raises Refusal."""
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
        stretches = list(order.grid.stretches()) if found else []
        data = [self._interval(order, interval, captures, stretches) for interval, captures in found]
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
        stretches: Sequence[SampleBlock],
    ) -> dict[str, Any]:
        document: dict[str, Any] = {"interval": interval.document()}
        if any(str(capture.day) in self.failing_days for capture in captures):
            return document | {"error": _error("The data of this interval cannot be read.")}
        on_top = sorted(captures, key=lambda capture: (capture.sensed, capture.ingested), reverse=True)
        if order.oldest_on_top:
            on_top.reverse()
        try:
            parts = [order.script.evaluate(_samples(order, on_top, stretch)) for stretch in stretches]
        except ScriptFault as fault:
            return document | {"error": _error(f"Failed to evaluate script! {fault}")}
        return document | {"outputs": _outputs(order, stretches, parts)}


def _error(message: str) -> dict[str, str]:
    return {"type": "EXECUTION_ERROR", "message": message}


def _status(data: Sequence[Mapping[str, Any]]) -> str:
    failed = sum("error" in interval for interval in data)
    if failed and failed == len(data):
        return "FAILED"
    return "PARTIAL" if failed else "OK"


def units(samples: int, bands: Sequence[str], intervals: int) -> float:
    """Processing units: one for 512 by 512 samples of three bands, for each interval with data."""
    counted = len([band for band in bands if band != MASK])
    return max(LEAST_UNITS, samples / _UNIT_PIXELS * counted / _UNIT_BANDS * intervals)


def _samples(order: Order, captures: Sequence[Capture], stretch: SampleBlock) -> dict[str, Pixels]:
    """Return the bands that a script reads for a block of samples; 0 where there are no data."""
    count = len(stretch.columns)
    names = order.script.bands
    found: dict[str, Pixels] = {name: np.zeros(count, np.int16) for name in names}
    open_places = np.flatnonzero(stretch.inside)
    for capture in captures:
        if not len(open_places):
            break
        within, places = _on(capture, stretch, open_places)
        if not len(places):
            continue
        left, top = capture.square.corner
        pixels = capture.read({*names, MASK}, stretch.rows[places] - top, stretch.columns[places] - left)
        filled = pixels[MASK] != 0
        for name in names:
            found[name][places[filled]] = pixels[name][filled]
        within[within] = filled
        open_places = open_places[~within]
    return found


def _on(
    capture: Capture, stretch: SampleBlock, places: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return the samples that are on a capture's tile."""
    left, top = capture.square.corner
    columns, rows = stretch.columns[places], stretch.rows[places]
    within = (columns >= left) & (columns < left + SIDE) & (rows >= top) & (rows < top + SIDE)
    return within, places[within]


def _outputs(order: Order, stretches: Sequence[SampleBlock], parts: Sequence[Evaluated]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    inside = np.concatenate([stretch.inside for stretch in stretches])
    for output in order.script.outputs:
        bands = {}
        for band in output.bands:
            key = output.id, band
            values = np.concatenate([part.values[key] for part in parts])
            valid = np.concatenate([part.valid[key] for part in parts])
            bands[band] = order.calculations[key].document(values, valid & inside)
        document[output.id] = {"bands": bands}
    return document
