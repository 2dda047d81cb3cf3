"""The report of a run, and the estimate from only the tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from stacpull.errors import quantity
from stacpull_trace.cover import tile_of
from stacpull_trace.days import rows_of
from stacpull_trace.hub.hub_client import Hub
from stacpull_trace.hub.replies import CatalogTile
from stacpull_trace.median import median_series, median_table
from stacpull_trace.question import TraceQuestion
from stacpull_trace.report import DayState, MedianRow, ScenePixels, TraceEstimate, TraceReport
from stacpull_trace.request_plan import (
    LEAST_UNITS,
    most_units,
    pieces_by_day,
    planned_requests,
    whole_area_requests,
)
from stacpull_trace.run import TraceResult

NOTHING: Final = (
    "Nothing matched: the collection has no tile in this area and period. "
    "Check --datetime and the area (longitude comes first)."
)
_PAGE: Final = 100
"""Tiles per page of the catalog."""


def trace_report(
    question: TraceQuestion, result: TraceResult, hub: Hub, seconds: float, stopped: bool
) -> TraceReport:
    """Return the report of a run; a stopped run has no days. Blocks: it makes the rows."""
    known = {} if stopped else result.days
    pixels = question.area.count_pixels()
    scenes: tuple[ScenePixels, ...] = ()
    table: tuple[MedianRow, ...] = ()
    notes: tuple[str, ...] = ()
    if question.method == "median":
        days = median_series(known, pixels)
        table = median_table(days)
    else:
        days, scenes = rows_of(known, pixels)
    if not (days or stopped):
        notes = (NOTHING,)
    if hub.given_up:
        requests = quantity(hub.given_up, "request")
        notes = (f"Gave up {requests}: the service may charge for this again.",)
    states = [day.state for day in days]
    counters = hub.session.counters
    return TraceReport(
        state="interrupted" if stopped else "complete",
        collection=question.collection,
        period=str(question.period),
        resolution=question.resolution,
        index=question.index.name,
        method=question.method,
        width=question.area.grid.width,
        height=question.area.grid.height,
        days_found=len(days),
        days_valid=sum(day.valid > 0 for day in days),
        days_unmapped=states.count(DayState.UNMAPPED),
        days_mismatched=states.count(DayState.MISMATCH),
        days_failed=states.count(DayState.FAILED),
        tiles=result.tiles,
        requests_statistics=hub.statistics_requests,
        requests=counters.requests,
        retries=counters.retries,
        processing_units=round(hub.processing_units, 6),
        seconds=round(seconds, 3),
        days=days,
        scenes=scenes,
        table=table,
        notes=(*result.notes, *notes),
        question=question.to_json(),
    )


def estimate_of(question: TraceQuestion, catalog: Sequence[CatalogTile]) -> TraceEstimate:
    """Estimate the requests and cost of a trace of these tiles. Blocks: it divides the area."""
    tiles = [tile_of(tile, None, question.area) for tile in catalog]
    days = sorted({tile.day for tile in tiles})
    if question.method == "median":
        planned = list(whole_area_requests(question.area, question.period, dict.fromkeys(days, "")))
        seen = len(days)
    else:
        planned = list(planned_requests(question.area, question.period, pieces_by_day(question.area, tiles)))
        seen = len(tiles)
    pages = max(1, -(-len(tiles) // _PAGE))
    units = most_units(question.area.grid.whole, planned, days, question.index.bands or 1)
    hundredths = 100 * (units + LEAST_UNITS * (pages + 2 * seen))
    return TraceEstimate(
        collection=question.collection,
        days=len(question.period),
        days_with_tiles=len(days),
        tiles=len(tiles),
        width=question.area.grid.width,
        height=question.area.grid.height,
        statistics_requests=len(planned),
        requests=1 + pages + len(planned) + 2 * seen,
        processing_units=math.ceil(round(hundredths, 6)) / 100,
    )
