"""`POST …/statistics`: runs an evalscript on the captures of each interval, and computes the statistics.

An interval is in the reply if one of its captures touches the area. If several do, the most recent one is on
top; at the same time, the one ingested last. Its pixels without data show the capture below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, json_reply
from stacpull_replicas.search_parameters import QueryError, read_geometry
from stacpull_replicas.sentinelhub.captures import BANDS, MASK, Archive, Capture, Pixels, Places
from stacpull_replicas.sentinelhub.evalscript import (
    Evalscript,
    ScriptError,
    ScriptFault,
    ScriptOutput,
    read_script,
)
from stacpull_replicas.sentinelhub.sentinelhub_service import (
    JSON,
    LEAST_UNITS,
    UNITS_HEADER,
    bad_payload,
    bad_script,
    check_method,
    not_found,
)
from stacpull_replicas.sentinelhub.tile_grid import EPSG, METRES, NORTH, SIDE, WEST, epsg_of, to_utm

_MAX_INTERVALS = 10_000
MAX_SIDE = 2500
"""Greatest width and height of a request."""
_AT_ONCE = 1 << 18
_OUTLINE_POINTS = 64
_FAR = 1e6


def written(moment: datetime) -> str:
    """Return a time as `2023-11-02T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def document_of(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_payload("Request body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise bad_payload("Request body must be a JSON object.")
    return document


_Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
_Step = Annotated[float, msgspec.Meta(gt=0)]
_Table = dict[str, Any]


class _GivenBounds(msgspec.Struct):
    bbox: tuple[float, float, float, float] | None = None
    geometry: _Table | None = None
    properties: _Table = {}


class _GivenData(msgspec.Struct):
    type: Annotated[str, msgspec.Meta(pattern="^(?i:byoc)-")]
    data_filter: _Table = msgspec.field(name="dataFilter", default_factory=dict)
    processing: _Table = {}


class _GivenInput(msgspec.Struct):
    bounds: _GivenBounds
    data: Annotated[list[_GivenData], msgspec.Meta(min_length=1, max_length=1)]


class _GivenPeriod(msgspec.Struct):
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")


class _AggregationInterval(msgspec.Struct):
    of: Annotated[str, msgspec.Meta(pattern="^P[1-9][0-9]{0,3}D$")]
    last: Literal["SKIP"] = msgspec.field(name="lastIntervalBehavior", default="SKIP")


class _Aggregation(msgspec.Struct):
    evalscript: str
    period: _GivenPeriod = msgspec.field(name="timeRange")
    interval: _AggregationInterval = msgspec.field(name="aggregationInterval")
    width: _Side | None = None
    height: _Side | None = None
    resx: _Step | None = None
    resy: _Step | None = None


class _Percentiles(msgspec.Struct):
    k: list[Annotated[float, msgspec.Meta(ge=0, le=100)]]


class _Statistic(msgspec.Struct):
    percentiles: _Percentiles


class _Bins(msgspec.Struct):
    bins: list[int | float]


class _Calculation(msgspec.Struct):
    statistics: dict[str, _Statistic] = {}
    histograms: dict[str, _Bins] = {}


class _StatisticsBody(msgspec.Struct):
    """What is read of a request; anything else is ignored."""

    input: _GivenInput
    aggregation: _Aggregation
    calculations: dict[str, _Calculation] = {}


class RequestedArea(msgspec.Struct, frozen=True):
    """The area of a request: a box (west, south, east, north) in a CRS, and the geometry, if any."""

    box: tuple[float, float, float, float]
    crs: int
    geometry: BaseGeometry | None

    @classmethod
    def read(cls, given: _GivenBounds) -> RequestedArea:
        name = str(given.properties.get("crs", "OGC:CRS84"))
        crs, geometry = epsg_of(name), None
        if crs is None:
            raise bad_payload(f"Unknown or unsupported CRS: {name}", "input->bounds->properties->crs")
        if given.geometry is not None:
            try:
                geometry = read_geometry(given.geometry)
            except QueryError as error:
                raise bad_payload(str(error), "input->bounds->geometry") from error
        box = given.bbox or (None if geometry is None else geometry.bounds)
        if box is None or not (box[0] < box[2] and box[1] < box[3]):
            raise bad_payload("Either bbox or geometry must be set.", "input->bounds")
        return cls(box, crs, geometry)

    def outline(self) -> BaseGeometry:
        """Return the box or geometry in metres of the tiles' UTM zone, with curved edges."""
        area = self.geometry if self.geometry is not None else shapely.box(*self.box)
        max_edge = max(self.box[2] - self.box[0], self.box[3] - self.box[1]) / _OUTLINE_POINTS
        points = shapely.segmentize(area, max_edge)

        def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(to_utm(xy[:, 0], xy[:, 1], self.crs, EPSG))

        bent: BaseGeometry = shapely.make_valid(shapely.transform(points, moved))
        return bent


class SampleBlock(msgspec.Struct, frozen=True):
    """Some samples of a grid: column and row of their pixels in the tile grid, and a mask of the area."""

    columns: Places
    rows: Places
    inside: NDArray[np.bool_]


class SampleGrid(msgspec.Struct, frozen=True):
    """An area divided into `width` by `height` samples."""

    area: RequestedArea
    width: int
    height: int

    @classmethod
    def read(cls, area: RequestedArea, given: _Aggregation) -> SampleGrid:
        """Read width and height, or resx and resy in units of the CRS."""
        if given.resx is None or given.resy is None:
            return cls(area, given.width or 256, given.height or 256)
        west, south, east, north = area.box
        sides = [max(1, round((east - west) / given.resx)), max(1, round((north - south) / given.resy))]
        if max(sides) > MAX_SIDE or given.width or given.height:
            message = f"width and height, calculated or given in place of it, must be up to {MAX_SIDE}."
            raise bad_payload(message, "aggregation")
        return cls(area, *sides)

    @property
    def samples(self) -> int:
        return self.width * self.height

    def blocks(self) -> Iterator[SampleBlock]:
        """Yield all samples, from the north, a quarter of a million at a time."""
        west, south, east, north = self.area.box
        geometry = self.area.geometry
        all_x = west + (np.arange(self.width) + 0.5) * ((east - west) / self.width)
        all_y = north - (np.arange(self.height) + 0.5) * ((north - south) / self.height)
        step = max(1, _AT_ONCE // self.width)
        for first in range(0, self.height, step):
            x, y = (part.ravel() for part in np.meshgrid(all_x, all_y[first : first + step]))
            inside = np.ones(len(x), bool) if geometry is None else shapely.contains_xy(geometry, x, y)
            easting, northing = to_utm(x, y, self.area.crs, EPSG)
            columns, rows = np.floor((easting - WEST) / METRES), np.floor((NORTH - northing) / METRES)
            far = ~((np.abs(columns) < _FAR) & (np.abs(rows) < _FAR))  # also NaN
            columns[far], rows[far] = -1, -1
            yield SampleBlock(columns.astype(np.int32), rows.astype(np.int32), inside)


class BandCalculation(msgspec.Struct, frozen=True):
    """The requested statistics of a band, in addition to the basic ones: percentiles and a histogram.

    Each bin of the histogram includes its lower edge; the last one includes both.
    """

    percentiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    @classmethod
    def read(cls, given: _Calculation, output: ScriptOutput, band: str) -> BandCalculation:
        statistic = given.statistics.get(band) or given.statistics.get("default")
        histogram = given.histograms.get(band) or given.histograms.get("default")
        edges = [] if histogram is None else histogram.bins
        where = f"calculations->{output.id}->histograms->{band}"
        if any(later <= earlier for earlier, later in pairwise(edges)):
            raise bad_payload("The bins of a histogram must be given by ascending numbers.", where)
        if edges and all(isinstance(edge, int) for edge in edges) != output.whole:
            numbers = "whole" if output.whole else "decimal"
            message = f"Histogram of {output.id} must be given by {numbers} numbers: its type is "
            raise bad_payload(f"{message}{output.sample_type}.", where)
        ranks = [] if statistic is None else statistic.percentiles.k
        return cls(tuple(ranks), tuple(map(float, edges)))

    def document(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the statistics of a band, from the `values` of all samples and a mask of `valid` ones.

        Means and deviations are computed in 64 bits over the whole population. Missing figures are "NaN".
        """
        kept = values[valid].astype(np.float64)
        stats: dict[str, Any] = dict.fromkeys(("min", "max", "mean", "stDev"), "NaN")
        if len(kept):
            figures = kept.min(), kept.max(), kept.mean(), kept.std()
            stats = dict(zip(stats, map(float, figures), strict=True))
        stats |= {"sampleCount": len(values), "noDataCount": len(values) - len(kept)}
        if self.percentiles:
            found = (
                np.percentile(kept, self.percentiles).tolist()
                if len(kept)
                else ["NaN"] * len(self.percentiles)
            )
            stats["percentiles"] = dict(zip(map(str, self.percentiles), found, strict=True))
        if not self.edges:
            return {"stats": stats}
        counts = np.histogram(kept, self.edges)[0].tolist()
        bins = zip(pairwise(self.edges), counts, strict=True)
        histogram = {
            "bins": [{"lowEdge": low, "highEdge": high, "count": count} for (low, high), count in bins],
            "overflowCount": int((kept > self.edges[-1]).sum()),
            "underflowCount": int((kept < self.edges[0]).sum()),
        }
        return {"stats": stats, "histogram": histogram}


class StatisticsOrder(msgspec.Struct, frozen=True):
    """A request: collection, grid, intervals (without their ends), script, a calculation per output band."""

    collection: str
    grid: SampleGrid
    intervals: tuple[tuple[datetime, datetime], ...]
    script: Evalscript
    calculations: Mapping[tuple[str, str], BandCalculation]

    @classmethod
    def read(cls, body: bytes) -> StatisticsOrder:
        try:
            given = msgspec.json.decode(body, type=_StatisticsBody)
        except msgspec.DecodeError as error:
            raise bad_payload(f"The request is not valid: {error}.") from error
        (data,), aggregation = given.input.data, given.aggregation
        if data.data_filter.get("mosaickingOrder", "mostRecent") != "mostRecent":
            raise bad_payload("Only mosaickingOrder mostRecent is supported.", "input->data[0]->dataFilter")
        if {data.processing.get(name, "NEAREST") for name in ("upsampling", "downsampling")} != {"NEAREST"}:
            raise bad_payload("Only NEAREST is supported.", "input->data[0]->processing")
        grid = SampleGrid.read(RequestedArea.read(given.input.bounds), aggregation)
        try:
            script = read_script(aggregation.evalscript, (*BANDS, MASK))
        except ScriptError as error:
            raise bad_script(str(error)) from error
        rest = given.calculations.get("default", _Calculation())
        calculations = {
            (output.id, band): BandCalculation.read(given.calculations.get(output.id, rest), output, band)
            for output in script.outputs
            for band in output.bands
        }
        start, end = aggregation.period.start.astimezone(UTC), aggregation.period.end.astimezone(UTC)
        step = timedelta(days=int(aggregation.interval.of[1:-1]))
        count = min(_MAX_INTERVALS, (end - start) // step)
        intervals = tuple((start + number * step, start + (number + 1) * step) for number in range(count))
        return cls(data.type[len("byoc-") :], grid, intervals, script, calculations)


_UNIT_PIXELS = 512 * 512
_UNIT_BANDS = 3


class Statistics(msgspec.Struct, frozen=True):
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
