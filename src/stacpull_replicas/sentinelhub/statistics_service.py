"""`POST …/statistics`: runs an evalscript on the captures of each interval, and computes the statistics.

An interval is in the reply if one of its captures touches the area. If several do, the most recent one is on
top; at the same time, the one ingested last. Its pixels without data show the capture below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, json_reply
from stacpull_replicas.queries import QueryError, read_geometry
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

_DAYS = re.compile(r"P([1-9]\d{0,3})D", re.ASCII)
_MOST_INTERVALS = 10_000
_MOST_BINS = 10_000
MOST = 2500
"""Greatest width and height of a request."""
_DEFAULT_SIDE = 256
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


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class RequestedArea:
    """The area of a request: a box (west, south, east, north) in a CRS, and the geometry, if any."""

    box: tuple[float, float, float, float]
    crs: int
    geometry: BaseGeometry | None

    @classmethod
    def read(cls, given: Any) -> RequestedArea:
        if not isinstance(given, Mapping) or not (given.get("bbox") or given.get("geometry")):
            raise bad_payload("Either bbox or geometry must be set.", "input->bounds")
        name = (given.get("properties") or {}).get("crs", "OGC:CRS84")
        crs = epsg_of(str(name))
        if crs is None:
            raise bad_payload(f"Unknown or unsupported CRS: {name}", "input->bounds->properties->crs")
        geometry: BaseGeometry | None = None
        box: Any = given.get("bbox")
        if given.get("geometry"):
            place = "input->bounds->geometry"
            try:
                geometry = read_geometry(given["geometry"])
            except QueryError as error:
                raise bad_payload(str(error), place) from error
            if (
                geometry.geom_type not in {"Polygon", "MultiPolygon"}
                or not np.isfinite(geometry.bounds).all()
            ):
                raise bad_payload("The geometry must be a Polygon or MultiPolygon.", place)
            box = box or geometry.bounds
        try:
            west, south, east, north = map(float, box)
        except (TypeError, ValueError) as error:
            raise bad_payload("A bbox must be four numbers.", "input->bounds->bbox") from error
        if not (np.isfinite([west, south, east, north]).all() and west < east and south < north):
            raise bad_payload("A bbox must be west, south, east, north.", "input->bounds->bbox")
        return cls((west, south, east, north), crs, geometry)

    def outline(self) -> BaseGeometry:
        """Return the box or geometry in metres of the tiles' UTM zone, with curved edges."""
        area = self.geometry if self.geometry is not None else shapely.box(*self.box)
        longest = max(self.box[2] - self.box[0], self.box[3] - self.box[1]) / _OUTLINE_POINTS
        points = shapely.segmentize(area, longest)

        def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(to_utm(xy[:, 0], xy[:, 1], self.crs, EPSG))

        bent: BaseGeometry = shapely.make_valid(shapely.transform(points, moved))
        return bent


@dataclass(frozen=True)
class SampleBlock:
    """Some samples of a grid: column and row of their pixels in the tile grid, and a mask of the area."""

    columns: Places
    rows: Places
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class SampleGrid:
    """An area divided into `width` by `height` samples."""

    area: RequestedArea
    width: int
    height: int

    @classmethod
    def read(cls, area: RequestedArea, aggregation: Mapping[str, Any]) -> SampleGrid:
        """Read width and height, or resx and resy in units of the CRS."""
        west, south, east, north = area.box
        if not ({"resx", "resy"} & aggregation.keys()):
            sides = [aggregation.get(name, _DEFAULT_SIDE) for name in ("width", "height")]
            for side in sides:
                if isinstance(side, bool) or not isinstance(side, int) or not 0 < side <= MOST:
                    message = f"width and height must be whole numbers from 1 to {MOST}."
                    raise bad_payload(message, "aggregation")
            return cls(area, *sides)
        if {"width", "height"} & aggregation.keys():
            message = "Only width and height or resx and resy can be set at the same time."
            raise bad_payload(message, "aggregation")
        sides = []
        for extent, name, which in ((east - west, "resx", "width"), (north - south, "resy", "height")):
            step: Any = aggregation.get(name)
            if not is_number(step) or not step > 0:
                raise bad_payload("A resolution must be a positive number.", f"aggregation->{name}")
            sides.append(max(1, round(extent / step)))
            if sides[-1] > MOST:
                message = f"`{which} = {sides[-1]}`, calculated from {name}, is larger than allowed {MOST}."
                raise bad_payload(message, f"aggregation->{name}")
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


@dataclass(frozen=True)
class BandCalculation:
    """The requested statistics of a band, in addition to the basic ones: percentiles and a histogram.

    Each bin of the histogram includes its lower edge; the last one includes both.
    """

    percentiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    @classmethod
    def read(cls, given: Any, output: ScriptOutput, band: str) -> BandCalculation:
        place = f"calculations->{output.id}"

        def of_band(kind: str, member: str) -> Any:
            found = given if isinstance(given, Mapping) else {}
            for name in (kind, band if band in (found.get(kind) or {}) else "default"):
                found = found.get(name) or {}
                if not isinstance(found, Mapping):
                    raise bad_payload(f"{name} must be an object.", f"{place}->{kind}->{band}")
            if found and member not in found:
                raise bad_payload(f"{kind} must have {member}.", f"{place}->{kind}->{band}")
            return found.get(member) or []

        ranks, edges = of_band("statistics", "percentiles"), of_band("histograms", "bins")
        ranks = ranks.get("k") if isinstance(ranks, Mapping) else ranks
        if not isinstance(ranks, list) or not all(is_number(k) and 0 <= k <= 100 for k in ranks):  # noqa: PLR2004
            raise bad_payload("Percentiles must be numbers from 0 to 100.", f"{place}->statistics->{band}")
        where = f"{place}->histograms->{band}"
        if not isinstance(edges, list) or len(edges) == 1 or len(edges) > _MOST_BINS:
            raise bad_payload("The bins of a histogram must be a list of edges.", where)
        if not all(map(is_number, edges)) or any(later <= earlier for earlier, later in pairwise(edges)):
            raise bad_payload("The bins of a histogram must be given by ascending numbers.", where)
        if edges and all(isinstance(edge, int) for edge in edges) != output.whole:
            numbers = "whole" if output.whole else "decimal"
            message = f"Histogram of {output.id} must be given by {numbers} numbers: its type is "
            raise bad_payload(f"{message}{output.sample_type}.", where)
        return cls(tuple(map(float, ranks)), tuple(map(float, edges)))

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


@dataclass(frozen=True)
class StatisticsOrder:
    """A request: collection, grid, intervals (without their ends), script, a calculation per output band."""

    collection: str
    grid: SampleGrid
    intervals: tuple[tuple[datetime, datetime], ...]
    script: Evalscript
    calculations: Mapping[tuple[str, str], BandCalculation]

    @classmethod
    def read(cls, body: bytes) -> StatisticsOrder:
        document = document_of(body)
        given, aggregation = _member(document, "input"), _member(document, "aggregation")
        collection = _collection(given.get("data"))
        grid = SampleGrid.read(RequestedArea.read(given.get("bounds")), aggregation)
        text = aggregation.get("evalscript")
        if not isinstance(text, str):
            raise bad_payload("Evalscript must be set.", "aggregation->evalscript")
        try:
            script = read_script(text, (*BANDS, MASK))
        except ScriptError as error:
            raise bad_script(str(error)) from error
        asked = document.get("calculations") or {}
        known = {output.id for output in script.outputs}
        if not isinstance(asked, Mapping) or not asked.keys() <= known | {"default"}:
            raise bad_payload(f"calculations must have only {', '.join(sorted(known))}.", "calculations")
        calculations = {
            (output.id, band): BandCalculation.read(asked.get(output.id, asked.get("default")), output, band)
            for output in script.outputs
            for band in output.bands
        }
        return cls(collection, grid, _intervals(aggregation), script, calculations)


def _member(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not isinstance(found, Mapping):
        raise bad_payload(f"{name} must be set.", name)
    return found


def _collection(data: Any) -> str:
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], Mapping):
        raise bad_payload("data must be a list of one data source.", "input->data")
    kind = str(data[0].get("type", ""))
    if not kind.lower().startswith("byoc-"):
        raise bad_payload(f"Unknown data source type: {kind}", "input->data[0]->type")
    order = (data[0].get("dataFilter") or {}).get("mosaickingOrder", "mostRecent")
    if order != "mostRecent":
        raise bad_payload(f"mosaickingOrder {order} is not supported.", "input->data[0]->dataFilter")
    for name, method in (data[0].get("processing") or {}).items():
        if name in {"upsampling", "downsampling"} and method != "NEAREST":
            raise bad_payload(f"{name} {method} is not supported.", "input->data[0]->processing")
    return kind[5:]


def _intervals(aggregation: Mapping[str, Any]) -> tuple[tuple[datetime, datetime], ...]:
    whole, cutting = _member(aggregation, "timeRange"), _member(aggregation, "aggregationInterval")
    ends = []
    for name in ("from", "to"):
        try:
            moment = datetime.fromisoformat(str(whole.get(name)))
        except ValueError as error:
            message = f"Invalid date: {whole.get(name)}"
            raise bad_payload(message, f"aggregation->timeRange->{name}") from error
        ends.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    start, end = ends
    if start >= end:
        raise bad_payload("timeRange must end after it begins.", "aggregation->timeRange")
    where = "aggregation->aggregationInterval"
    match = _DAYS.fullmatch(str(cutting.get("of")))
    if match is None:
        message = f"Invalid aggregation interval: {cutting.get('of')}; only whole days are supported."
        raise bad_payload(message, f"{where}->of")
    if (behaviour := cutting.get("lastIntervalBehavior", "SKIP")) != "SKIP":
        raise bad_payload(f"lastIntervalBehavior {behaviour} is not supported.", where)
    step = timedelta(days=int(match[1]))
    count = min(_MOST_INTERVALS, (end - start) // step)
    return tuple((start + number * step, start + (number + 1) * step) for number in range(count))


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
