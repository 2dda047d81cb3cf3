"""`POST …/statistics`: runs an evalscript on the captures of each interval, and computes the statistics.

An interval is in the reply if one of its captures touches the area. If several do, the most recent one is on
top; at the same time, the one ingested last. Its pixels without data show the capture below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, json_reply
from stacpull_replicas.sentinelhub.captures import MASK, Archive, Capture, Pixels
from stacpull_replicas.sentinelhub.evalscript import ScriptFault
from stacpull_replicas.sentinelhub.sentinelhub_service import (
    JSON,
    LEAST_UNITS,
    UNITS_HEADER,
    check_method,
    not_found,
)
from stacpull_replicas.sentinelhub.statistics_order import SampleBlock, StatisticsOrder, written
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
        check_method(request, "POST")
        order = StatisticsOrder.read(request.body)
        archive = self.archives.get(order.collection)
        if archive is None:
            raise not_found(f"Collection byoc-{order.collection}")
        area = order.grid.area.outline()
        found = [(start, end, archive.within(start, end, area)) for start, end in order.intervals]
        found = [interval for interval in found if interval[2]]
        blocks = list(order.grid.blocks()) if found else []
        data = [
            {"interval": {"from": written(start), "to": written(end)}}
            | self._computed(order, captures, blocks)
            for start, end, captures in found
        ]
        failed = sum("error" in interval for interval in data)
        status = "OK" if not failed else "FAILED" if failed == len(data) else "PARTIAL"
        reply = json_reply({"data": data, "status": status}, "statistics", JSON)
        # one unit per 512 by 512 samples of three bands and interval with data
        bands = len([band for band in order.script.bands if band != MASK])
        units = order.grid.samples / _UNIT_PIXELS * bands / _UNIT_BANDS * len(found)
        reply.headers[UNITS_HEADER] = str(max(LEAST_UNITS, units))
        return reply

    def _computed(
        self, order: StatisticsOrder, captures: list[Capture], blocks: Sequence[SampleBlock]
    ) -> dict[str, Any]:
        if any(str(capture.day) in self.failing_days for capture in captures):
            return _error("The data of this interval cannot be read.")
        on_top = sorted(captures, key=lambda capture: (capture.sensed, capture.ingested), reverse=True)
        try:
            parts = [order.script.evaluate(_samples(order.script.bands, on_top, block)) for block in blocks]
        except ScriptFault as fault:
            return _error(f"Failed to evaluate script! {fault}")
        inside = np.concatenate([block.inside for block in blocks])
        outputs: dict[str, Any] = {output.id: {"bands": {}} for output in order.script.outputs}
        for (output, band), calculation in order.calculations.items():
            values = np.concatenate([part.values[output, band] for part in parts])
            valid = np.concatenate([part.valid[output, band] for part in parts])
            outputs[output]["bands"][band] = calculation.document(values, valid & inside)
        return {"outputs": outputs}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"type": "EXECUTION_ERROR", "message": message}}


def _samples(names: Sequence[str], captures: Sequence[Capture], block: SampleBlock) -> dict[str, Pixels]:
    count = len(block.columns)
    found: dict[str, Pixels] = {name: np.zeros(count, np.int16) for name in names}
    open_places = np.flatnonzero(block.inside)
    for capture in captures:
        left, top = capture.square.corner
        columns, rows = block.columns[open_places] - left, block.rows[open_places] - top
        within = (columns >= 0) & (columns < SIDE) & (rows >= 0) & (rows < SIDE)
        if not within.any():
            continue
        places = open_places[within]
        pixels = capture.read({*names, MASK}, rows[within], columns[within])
        filled = pixels[MASK] != 0
        for name in names:
            found[name][places[filled]] = pixels[name][filled]
        within[within] = filled
        open_places = open_places[~within]
    return found
